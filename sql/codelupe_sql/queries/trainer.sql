-- Batches, and the models trained on them. "Good" files are stored ones with a score and a length within limits.

-- name: freeze_batch
-- Freeze the good files of which neither they nor a near duplicate are in a batch yet, the best first and one of each
-- cluster, in one new batch if there are enough of them.
-- $1 lowest score, $2 fewest and $3 most characters, $4 share of repositories held out, $5 fewest and $6 most files,
-- $7 share of files for validation, $8 seed of that split. Always returns one row: how many files there were, and the
-- batch or nulls.
with chosen as materialized (
    select id, repository_id, characters, content_hash
    from processed_files
    where content is not null and quality_score >= $1 and characters between $2 and $3
      and not is_held_out(repository_id, $4) and is_survivor
      and not exists (select from batch_files where batch_files.file_id = processed_files.id)
      and not exists (
          select from processed_files as twin join batch_files on batch_files.file_id = twin.id
          where twin.cluster_id = processed_files.cluster_id
      )
    order by quality_score desc, content_hash limit $6
), batch as (
    insert into batches (files, characters, repositories, min_score)
    select count(*), sum(characters), count(distinct repository_id), $1 from chosen having count(*) >= $5
    returning id, files, characters, repositories
), shuffled as (
    select id, row_number() over (order by md5($8::integer::text || encode(content_hash, 'hex'))) as place from chosen
), members as (
    insert into batch_files (file_id, batch_id, split)
    select shuffled.id, batch.id,
           case when place <= greatest(1, round($7::float * batch.files)) then 'validation' else 'train' end
    from shuffled, batch order by shuffled.id
)
select (select count(*) from chosen) as waiting, batch.id, batch.files, batch.characters, batch.repositories
from (values (1)) as one left join batch on true

-- name: batch_files_as_json
-- The files of a batch in an order that has nothing to do with where they come from.
select json_build_object(
    'repository_id', repositories.id, 'repository', repositories.full_name, 'commit', processed_files.commit,
    'licence', processed_files.licence, 'path', file_path, 'language', processed_files.language,
    'content_hash', encode(content_hash, 'hex'), 'split', split, 'content', content
)::text
from batch_files
join processed_files on processed_files.id = batch_files.file_id
join repositories on repositories.id = processed_files.repository_id
where batch_files.batch_id = $1 and content is not null
order by content_hash

-- name: held_out_files_as_json
-- Good files of repositories that are held out, themselves and their near duplicates never trained on, in turn from
-- each repository.
-- $1 lowest score, $2 fewest and $3 most characters, $4 share of repositories held out, $5 most files.
with untouched as (
    select id, full_name from repositories
    where is_held_out(id, $4) and not exists (
        select from processed_files join batch_files on batch_files.file_id = processed_files.id
        where processed_files.repository_id = repositories.id
    )
), good as (
    select processed_files.*, full_name,
           row_number() over (partition by repository_id order by content_hash) as turn
    from processed_files join untouched on untouched.id = repository_id
    where content is not null and is_survivor
      and not exists (
          select from processed_files as twin join batch_files on batch_files.file_id = twin.id
          where twin.cluster_id = processed_files.cluster_id
      ) and quality_score >= $1 and characters between $2 and $3
)
select json_build_object(
    'repository_id', repository_id, 'repository', full_name, 'commit', commit, 'licence', licence, 'path', file_path,
    'language', language, 'content_hash', encode(content_hash, 'hex'), 'split', 'held-out', 'content', content
)::text
from good order by turn, content_hash limit $5

-- name: start_model
-- Returns the model's id unless a model of this batch was trained before.
insert into models as known (id, batch_id, base, state) values ($1, $2, $3, 'training')
on conflict (batch_id) do update set id = excluded.id, base = excluded.base, state = 'training', finished_at = null
where known.state in ('training', 'failed')
returning id

-- name: finish_training
update models set state = 'trained', path = $2, losses = $3, steps = $4, samples = $5,
    reasons = '[]', finished_at = now()
where id = $1

-- name: fail_training
update models set state = 'failed', reasons = $2, finished_at = now() where id = $1

-- name: model_to_judge
select state, base from models where id = $1

-- name: model_in_use
-- The model promoted last on this base, other than the one asked about.
select id, path from models where base = $1 and state = 'promoted' and id <> $2
order by decided_at desc limit 1

-- name: decide
-- $2 promoted or rejected, $3 losses to add, $4 metrics, $5 reasons.
update models set state = $2, losses = losses || $3, metrics = $4,
    reasons = $5, decided_at = now()
where id = $1
