-- What `codelupe status`, `models list` and `events trace` read.

-- name: repositories
select state, count(*) as n from repositories group by state order by state

-- name: repository_reasons
-- Why repositories were turned down, the most frequent rule first.
select reason ->> 'rule' as rule, count(*) as n
from repositories, jsonb_array_elements(reasons) as reason
where state = 'rejected' group by rule order by n desc, rule

-- name: files
select count(*) as seen,
       count(*) filter (where content is not null) as stored,
       count(*) filter (where rejected_by is not null) as rejected,
       count(*) filter (where quality_score is not null) as scored,
       count(*) filter (where quality_score >= 70) as good,
       avg(quality_score)::float as mean_score
from processed_files

-- name: file_rejections
select rejected_by as rule, count(*) as n from processed_files
where rejected_by is not null group by rule order by n desc, rule

-- name: batches
select batches.id, batches.files, batches.characters, batches.repositories, batches.min_score, batches.created_at,
       models.id as model
from batches left join models on models.batch_id = batches.id order by batches.id

-- name: models
select id, state, base, batch_id as batch, losses, metrics, reasons, steps, samples, path, started_at, finished_at,
       decided_at
from models order by started_at, id

-- name: model
select id, state, base, batch_id as batch, losses, metrics, reasons, steps, samples, path, started_at, finished_at,
       decided_at
from models where id = $1

-- name: batch
select id, files, characters, repositories, min_score, created_at from batches where id = $1

-- name: batch_repositories
select repositories.id, repositories.full_name, repositories.url, repositories.licence, processed_files.commit,
       count(*) as files
from batch_files
join processed_files on processed_files.id = batch_files.file_id
join repositories on repositories.id = processed_files.repository_id
where batch_files.batch_id = $1
group by repositories.id, processed_files.commit order by files desc, repositories.id

-- name: batch_file_list
select processed_files.repository_id, processed_files.commit, processed_files.file_path as path,
       processed_files.licence, encode(processed_files.content_hash, 'hex') as content_hash,
       processed_files.quality_score::float as score, batch_files.split
from batch_files join processed_files on processed_files.id = batch_files.file_id
where batch_files.batch_id = $1
order by processed_files.repository_id, processed_files.file_path
