-- Scores of stored files, and their near duplicates.

-- name: count_unscored
-- The stored files of a commit that lack a score by some scorer in its present version and weight ($3 maps each scorer's
-- name to both), or the signature in its present version ($4).
select count(*) from processed_files
where repository_id = $1 and commit = $2 and content is not null
  and (scores is null or not scores @> $3 or signature_version is distinct from $4)

-- name: read_unscored
-- The next of those files after the id $5: at most $6 of them, and no further one behind $7 characters. is_new says
-- whether its near duplicates are still to be found.
select id, file_path, content, language, licence, signature_version is distinct from $4 as is_new
from (
    select *, sum(characters) over (order by id) - characters as characters_before
    from (
        select * from processed_files
        where repository_id = $1 and commit = $2 and content is not null and id > $5
          and (scores is null or not scores @> $3 or signature_version is distinct from $4)
        order by id limit $6
    ) as next
) as next_few
where characters_before < $7 order by id

-- name: publish_bands
-- Makes these files ($3) known by their bands ($1, each with its file in $2), and by no others.
with outdated as (
    delete from near_duplicate_bands
    where file_id = any($3) and (band, file_id) not in (select * from unnest($1::bigint[], $2::bigint[]))
)
insert into near_duplicate_bands (band, file_id)
select * from unnest($1::bigint[], $2::bigint[]) as bands (band, file_id) order by band, file_id
on conflict do nothing

-- name: find_candidates
-- Which files each file is to be compared with: those it shares most bands with, the earlier ones first, at most two of
-- one cluster and ten in all. Of those with the same band only the earliest fifty count.
with sharing as (
    select asked.file_id, bucket.file_id as candidate, count(*) as shared
    from unnest($1::bigint[], $2::bigint[]) as asked (band, file_id)
    cross join lateral (
        select file_id from near_duplicate_bands as known where known.band = asked.band order by file_id limit 50
    ) as bucket
    where bucket.file_id <> asked.file_id
    group by asked.file_id, bucket.file_id
), stored as (
    select sharing.*, characters, row_number() over (
        partition by file_id, coalesce(cluster_id, id) order by shared desc, candidate
    ) as place_in_cluster
    from sharing join processed_files on id = candidate where content is not null
), ranked as (
    select *, row_number() over (partition by file_id order by shared desc, candidate) as place
    from stored where place_in_cluster <= 2
)
select file_id, candidate, characters from ranked where place <= 10 order by file_id, place

-- name: read_contents
select id, content from processed_files where id = any($1) and content is not null

-- name: create_incoming_scores
-- What came of a repository's files on its way into the tables, filled by COPY: a score each, or why there is none.
create temporary table incoming_scores (id bigint, quality real, scores text, lost text) on commit drop

-- name: create_incoming_pairs
create temporary table incoming_pairs (file_id bigint, other_id bigint, jaccard real) on commit drop

-- name: lock_clusters
select lock_clusters()

-- name: store_scores
-- What was there before is kept beside it, for comparison.
update processed_files set
    quality_score = incoming.quality, scores = incoming.scores::jsonb, scored_at = now(), signature_version = $1,
    previous_scores = case when scores_differ then processed_files.scores else previous_scores end,
    previous_quality = case when scores_differ then quality_score else previous_quality end
from (
    select incoming_scores.*, known.scores <> incoming_scores.scores::jsonb as scores_differ
    from incoming_scores join processed_files as known using (id) where incoming_scores.lost is null
) as incoming
where processed_files.id = incoming.id and content is not null

-- name: reject_lost
-- Files that killed the process which scored them, or ran into a limit.
update processed_files set
    content = null, quality_score = null, scores = null, scored_at = null, rejected_by = 'worker-limit',
    rejection = jsonb_build_object('rule', 'worker-limit', 'version', 1, 'detail', lost)
from incoming_scores where processed_files.id = incoming_scores.id and lost is not null and content is not null

-- name: store_pairs
-- Those whose files are both still there.
insert into near_duplicates (file_id, other_id, jaccard)
select file_id, other_id, max(jaccard) from incoming_pairs
where exists (select from processed_files where id = file_id and content is not null)
  and exists (select from processed_files where id = other_id and content is not null)
group by file_id, other_id order by file_id, other_id
on conflict (file_id, other_id) do update set jaccard = excluded.jaccard

-- name: open_clusters
-- A cluster for each file that has its first near duplicate.
update processed_files set cluster_id = id
where cluster_id is null and id in (
    select file_id from incoming_pairs join near_duplicates using (file_id, other_id)
    union select other_id from incoming_pairs join near_duplicates using (file_id, other_id)
)

-- name: settle_clusters
-- Of all files of the commit, which may also have come from another repository, of those with a new near duplicate, and
-- of those that lost their content.
select settle_cluster(variadic array(
    select cluster_id from processed_files where cluster_id is not null and repository_id = $1 and commit = $2
    union select cluster_id from processed_files where cluster_id is not null and id in (
        select file_id from incoming_pairs union select other_id from incoming_pairs
    )
    union select cluster_id from processed_files where cluster_id is not null and content is null
))

-- name: mean_score
-- Over all scored files of a commit.
select count(*) as files, coalesce(avg(quality_score), 0)::float as mean from processed_files
where repository_id = $1 and commit = $2 and content is not null and scored_at is not null

-- name: finish_scoring
update repositories set state = state_after(state, 'scored') where id = $1 and coalesce(commit, $2) = $2
