-- Looking at files: which there are, why one was kept or refused, and how their scores have changed.

-- name: list_files
-- A page of the files that fit $1 to $6 (see matching_files), after the one with the id $7, at most $8.
select files.id, repositories.full_name as repository, files.commit, files.file_path as path, files.language,
       files.licence, files.size_bytes, files.characters, round(files.quality_score::numeric, 2)::float as score,
       files.rejected_by, files.cluster_id as cluster, files.is_survivor
from matching_files($1, $2, $3, $4, $5, $6) as files join repositories on repositories.id = files.repository_id
where files.id > $7 order by files.id limit $8

-- name: repositories_named
select id from repositories where id = $1 or lower(full_name) = lower($1)

-- name: files_at
-- Files at a path ($1) or at the end of one, of some repositories ($2) or of all; exact matches first, then the newest.
select files.id, repositories.full_name as repository, files.commit, files.file_path as path
from processed_files as files join repositories on repositories.id = files.repository_id
where ($2::text[] is null or files.repository_id = any($2))
  and (files.file_path = $1 or right(files.file_path, length($1) + 1) = '/' || $1)
order by files.file_path <> $1, files.id desc limit $3

-- name: file
select files.id, repository_id, commit, file_path as path, language, licence, licence_evidence, labels, size_bytes,
       characters, encode(content_hash, 'hex') as content_hash, content is not null as stored, rejected_by, rejection,
       redactions, rules, round(quality_score::numeric, 2)::float as score, scores, scored_at,
       round(previous_quality::numeric, 2)::float as previous_score, previous_scores, cluster_id as cluster,
       is_survivor, created_at
from processed_files as files left join rule_sets on rule_sets.id = rule_set
where files.id = $1

-- name: repository
select id, source, full_name, url, revision, commit, state, licence, stars, forks, score::float as score, reasons
from repositories where id = $1

-- name: cluster_files
-- The near duplicates in a cluster ($1) beside a file ($2), with the Jaccard index between them where it was computed:
-- the survivor first, then the nearest, at most $3.
select files.id, repositories.full_name as repository, files.commit, files.file_path as path,
       round(jaccard::numeric, 3)::float as jaccard, files.is_survivor
from processed_files as files join repositories on repositories.id = files.repository_id
left join near_duplicates on file_id = greatest(files.id, $2) and other_id = least(files.id, $2)
where files.cluster_id = $1 and files.id <> $2
order by not files.is_survivor, jaccard desc nulls last, files.id limit $3

-- name: batches_of_file
select batch_files.batch_id as batch, batch_files.split, models.id as model, models.state
from batch_files left join models using (batch_id)
where file_id = $1

-- name: copies_of_file
-- Files that were refused as copies of this one.
select copies.id, repositories.full_name as repository, copies.commit, copies.file_path as path
from processed_files as original
join processed_files as copies on copies.content_hash = original.content_hash
join repositories on repositories.id = copies.repository_id
where original.id = $1 and original.content is not null and copies.rejected_by = 'exact-duplicate'
order by copies.id limit $2

-- name: score_changes
-- For each dimension, and as "total" for the mean of them all: in how many files that were scored anew ($1 to $6 as in
-- matching_files) it applied before and after, its means, how many files came to the threshold ($7) or fell below it,
-- and the versions.
with scored as (
    select id, previous_scores, scores, previous_quality, quality_score
    from matching_files($1, $2, $3, $4, $5, $6) where previous_scores is not null and content is not null
), values_of as (
    select id, dimension, (previous_scores -> dimension ->> 'value')::float as before,
           (scores -> dimension ->> 'value')::float as after,
           previous_scores -> dimension ->> 'version' as version_before, scores -> dimension ->> 'version' as version_after
    from scored, lateral (
        select jsonb_object_keys(previous_scores) as dimension union select jsonb_object_keys(scores)) as dimensions
    union all
    select id, 'total', previous_quality, quality_score, null, null from scored
)
select dimension, max(version_before)::integer as version_before, max(version_after)::integer as version_after,
       count(before) as files_before, count(after) as files_after, avg(before) as mean_before, avg(after) as mean_after,
       count(*) filter (where before < $7 and after >= $7) as up,
       count(*) filter (where before >= $7 and after < $7) as down
from values_of
group by dimension order by dimension = 'total', dimension

-- name: largest_changes
-- The files in which a dimension ($7; "total" for the mean of all) has changed most, at most $8.
select * from (
    select files.id, repositories.full_name as repository, files.file_path as path,
           case when $7 = 'total' then previous_quality else (previous_scores -> $7 ->> 'value')::float end as before,
           case when $7 = 'total' then quality_score else (scores -> $7 ->> 'value')::float end as after
    from matching_files($1, $2, $3, $4, $5, $6) as files join repositories on repositories.id = files.repository_id
    where previous_scores is not null and content is not null
) as changes
where before <> after order by abs(after - before) desc, id limit $8
