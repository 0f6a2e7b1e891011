-- The curated data set: files with their content, one of each cluster of near duplicates. $1 to $6 of every query are
-- those of matching_files.

-- name: snapshot
-- How many files there are, the last of them, and a number that changes with anything of theirs that is exported.
select count(*) as files, coalesce(max(files.id), 0) as last_id,
       coalesce(sum(hashtextextended(row(
           files.id, content_hash, quality_score, scores, files.licence, files.language, labels, cluster_id, full_name, url
       )::text, 0)), 0)::text as fingerprint
from matching_files($1, $2, $3, $4, $5, $6) as files join repositories on repositories.id = repository_id
where content is not null and is_survivor

-- name: page
-- The next files after the one with the id $7, at most $8.
select files.id, repository_id, full_name as repository, url, files.commit, file_path as path, files.language,
       files.licence, labels, characters, round(quality_score::numeric, 2)::float as score, scores,
       cluster_id as cluster, encode(content_hash, 'hex') as content_hash, content
from matching_files($1, $2, $3, $4, $5, $6) as files join repositories on repositories.id = repository_id
where content is not null and is_survivor and files.id > $7
order by files.id limit $8

-- name: languages
select coalesce(language, 'unknown') as name, count(*) as files, sum(characters)::bigint as characters
from matching_files($1, $2, $3, $4, $5, $6) where content is not null and is_survivor
group by name order by files desc, name

-- name: licences
select coalesce(licence, 'unknown') as name, count(*) as files, sum(characters)::bigint as characters
from matching_files($1, $2, $3, $4, $5, $6) where content is not null and is_survivor
group by name order by files desc, name

-- name: histogram
-- Files by tens of their score; 100 counts among the nineties.
select least(floor(quality_score / 10), 9)::integer * 10 as at_least, count(*) as files
from matching_files($1, $2, $3, $4, $5, $6) where content is not null and is_survivor and quality_score is not null
group by at_least order by at_least

-- name: scorers
select dimension as name, (score ->> 'version')::integer as version, count(*) as files
from matching_files($1, $2, $3, $4, $5, $6), jsonb_each(scores) as one (dimension, score)
where content is not null and is_survivor
group by name, version order by name, version

-- name: rules
-- The rules that the files passed, in the order in which they were asked.
select rules from rule_sets where id in (
    select rule_set from matching_files($1, $2, $3, $4, $5, $6) where content is not null and is_survivor
) order by id
