-- Scores of stored files.

-- name: read_unscored
-- The next stored files of a commit that lack a score by some scorer in its present version and weight: $3 maps each
-- scorer's name to both.
select id, file_path, content, language, licence from processed_files
where repository_id = $1 and commit = $2 and content is not null
  and (scores is null or not scores @> $3::text::jsonb) and id > $4
order by id limit $5

-- name: count_unscored
select count(*) from processed_files
where repository_id = $1 and commit = $2 and content is not null
  and (scores is null or not scores @> $3::text::jsonb)

-- name: store_scores
update processed_files set quality_score = scored.quality, scores = scored.scores::jsonb, scored_at = now()
from unnest($1::bigint[], $2::real[], $3::text[]) as scored (id, quality, scores)
where processed_files.id = scored.id

-- name: mean_score
-- Over all scored files of a commit.
select count(*) as files, coalesce(avg(quality_score), 0)::float as mean from processed_files
where repository_id = $1 and commit = $2 and content is not null and scored_at is not null

-- name: finish_scoring
update repositories set state = 'scored' where id = $1 and coalesce(commit, $2) = $2
