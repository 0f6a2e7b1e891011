-- What the benchmark of files puts in and counts.

-- name: add_repository
insert into repositories (id, source, full_name, url, revision, state, commit, path)
values ($1, 'bench', $2, $2, $3, 'cloned', $3, $2)

-- name: count_outcomes
-- By what became of each file: null for those that are stored.
select rejected_by, count(*) as files, coalesce(sum(size_bytes), 0)::bigint as bytes
from processed_files group by rejected_by order by files desc

-- name: count_scores
select count(*) as stored, count(quality_score) as scored, count(*) filter (where quality_score >= 70) as trainable
from processed_files where content is not null
