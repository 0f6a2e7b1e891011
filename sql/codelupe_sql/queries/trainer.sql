-- Batches, and the models trained on them. "Good" files are stored ones with a score and a length within limits.

-- name: record_scored_commits
-- Which event ($3, at the position $4) said that the files of a commit ($2) of a repository ($1) are scored.
insert into scored_commits (repository_id, commit, event_id, position)
select distinct on (repository_id, commit) repository_id, commit, event_id, position
from unnest($1::text[], $2::text[], $3::uuid[], $4::bigint[]) as scored (repository_id, commit, event_id, position)
order by repository_id, commit, position desc
on conflict (repository_id, commit) do update set event_id = excluded.event_id, position = excluded.position
where scored_commits.position < excluded.position

-- name: freeze_batch
-- Freeze fresh files of repositories that are not held out, the best first and one of each cluster, in one new batch if
-- there are enough of them; none that shares lines with the newest evaluation set, or was not compared with it yet.
-- $1 lowest score, $2 fewest and $3 most characters, $4 fewest and $5 most files, $6 share of files for validation, $7
-- seed of that split. Always returns one row: how many files there were, and the batch or nulls. Its cause is the last
-- event that scored files of it, if that event has been recorded.
with chosen as materialized (
    select id, repository_id, commit, characters, content_hash
    from fresh_files($1, $2, $3) as fresh
    where exists (
        select from repository_groups where repository_groups.repository_id = fresh.repository_id and not is_held_out
    ) and (newest_evaluation_set() is null or exists (
        select from evaluation_checks
        where file_id = fresh.id and version = newest_evaluation_set() and window_number is null
    ))
    order by quality_score desc, content_hash limit $5
), batch as (
    insert into batches (files, characters, repositories, min_score)
    select count(*), sum(characters), count(distinct repository_id), $1 from chosen having count(*) >= $4
    returning id, files, characters, repositories
), shuffled as (
    select id, row_number() over (order by md5($7::integer::text || encode(content_hash, 'hex'))) as place from chosen
), members as (
    insert into batch_files (file_id, batch_id, split)
    select shuffled.id, batch.id,
           case when place <= greatest(1, round($6::float * batch.files)) then 'validation' else 'train' end
    from shuffled, batch order by shuffled.id
)
select (select count(*) from chosen) as waiting, batch.id, batch.files, batch.characters, batch.repositories, (
    select event_id from scored_commits join chosen using (repository_id, commit) order by position desc limit 1
) as cause
from (values (1)) as one left join batch on true

-- name: draw_replays
-- Draw what a new batch ($1) learns from again: every file of batches whose training failed that no other batch has
-- learned from, and of all other earlier ones so many that they make up a share ($2) of what is trained on, in turn from
-- each repository and language, first those of rejected models. $3 seed. At most $4 files. Returns how many.
with earlier as (
    select processed_files.id, language, repository_id, models.state = 'rejected' as is_rejected,
           models.state <> 'failed' or exists (
               select from batch_replays join models as later on later.batch_id = batch_replays.batch_id
               where batch_replays.file_id = processed_files.id and later.state <> 'failed'
           ) as is_learned,
           md5($3::integer::text || '/' || $1::bigint::text || encode(content_hash, 'hex')) as draw
    from batch_files
    join models on models.batch_id = batch_files.batch_id
    join processed_files on processed_files.id = file_id
    where batch_files.batch_id < $1 and split = 'train' and models.state <> 'training'
      and content is not null and is_survivor
      and not exists (select from repositories where repositories.id = repository_id and is_out(repositories.state))
), returned as (
    select id, true as is_returned, 0 as turn, draw from earlier where not is_learned
), learned as (
    select id, false as is_returned,
           row_number() over (partition by language, repository_id order by is_rejected desc, draw) as turn, draw
    from earlier where is_learned
), replayed as (
    select * from learned order by turn, draw limit (
        select round($2::float / (1 - $2) * (count(*) + (select count(*) from returned)))
        from batch_files where batch_id = $1 and split = 'train'
    )
), drawn as (
    insert into batch_replays (batch_id, file_id, is_returned)
    select $1, id, is_returned from (select * from returned union all select * from replayed) as files
    order by is_returned desc, turn, draw limit $4
    returning file_id
)
select count(*) from drawn

-- name: batch_files_as_json
-- The files of a batch, and those it learns from again, in an order that has nothing to do with where they come from.
with members as (
    select file_id, split from batch_files where batch_id = $1
    union all
    select file_id, 'replay' from batch_replays where batch_id = $1
)
select json_build_object(
    'repository_id', repositories.id, 'repository', repositories.full_name, 'commit', processed_files.commit,
    'licence', processed_files.licence, 'path', file_path, 'language', processed_files.language,
    'content_hash', encode(content_hash, 'hex'), 'split', split, 'score', quality_score, 'content', content
)::text
from members
join processed_files on processed_files.id = file_id
join repositories on repositories.id = processed_files.repository_id
where content is not null
order by content_hash

-- name: count_batch_files
-- How many files of a batch, and of those it learns from again, have not been forgotten.
select count(*) from processed_files where content is not null and (
    id in (select file_id from batch_files where batch_id = $1)
    or id in (select file_id from batch_replays where batch_id = $1)
)

-- name: training_totals
-- What all trainings that were completed have learned from: the highest id of their files, how many there were, how many
-- files they saw, and when the last one ended.
select coalesce((select max(file_id) from batch_files where batch_id in (select batch_id from models where steps is not null)), 0)
           as last_trained_id,
       count(*) as total_training_runs, coalesce(sum(samples), 0) as total_samples_trained,
       max(finished_at) as last_training_time
from models where steps is not null

-- name: start_model
-- The model ($1) of the batch ($2) on a base ($3) goes on from a parent ($4), or from the one with which it was begun, by
-- these settings ($5). Returns its id and parent unless a model of this batch was trained before.
insert into models as known (id, batch_id, base, state, parent, settings) values ($1, $2, $3, 'training', $4, $5)
on conflict (batch_id) do update set
    id = excluded.id, base = excluded.base, state = 'training', settings = excluded.settings, finished_at = null,
    parent = case when known.state = 'training' and known.id = excluded.id then known.parent else excluded.parent end
where known.state in ('training', 'failed')
returning id, parent

-- name: unjudged_model
-- A model on this base ($1) that the gate is about to judge: trained in the last hour, and no reason to wait is known.
select id from models
where base = $1 and state = 'trained' and reasons = '[]' and finished_at > now() - interval '1 hour' limit 1

-- name: lineage
-- The batches that a model and those that it went on from were trained on, the oldest first.
with recursive line as (
    select id, batch_id, parent from models where id = $1
    union
    select models.id, models.batch_id, models.parent from models join line on models.id = line.parent
)
select batch_id from line order by batch_id

-- name: record_progress
update models set progress = $2::jsonb || jsonb_build_object('at', now()) where id = $1 and state = 'training'

-- name: training_under_way
-- The one that was begun last, if it told of itself within 15 seconds.
select id as model, progress from models
where state = 'training' and (progress ->> 'at')::timestamptz > now() - interval '15 seconds'
order by started_at desc, id desc limit 1

-- name: finish_training
update models set state = 'trained', path = $2, losses = $3, steps = $4, samples = $5,
    reasons = '[]', progress = null, finished_at = now()
where id = $1

-- name: fail_training
update models set state = 'failed', reasons = $2, progress = null, finished_at = now() where id = $1

-- name: model_state
select state from models where id = $1

-- name: model_in_use
-- The model promoted last on this base, other than the one asked about.
select id, path from models where base = $1 and state = 'promoted' and id <> $2
order by decided_at desc limit 1

-- name: model_to_beat
-- The model promoted last, on whatever base, other than the one asked about.
select id, path from models where state = 'promoted' and id <> $1 order by decided_at desc limit 1

-- name: decide
-- $2 promoted or rejected, $3 metrics, $4 the table, $5 reasons, $6 version of the evaluation set. Returns the id unless
-- the model was judged before.
update models set state = $2, metrics = $3, evaluation = $4, reasons = $5, evaluation_set = $6, decided_at = now()
where id = $1 and state = 'trained'
returning id

-- name: wait_to_be_judged
-- $2 says what for.
update models set reasons = $2 where id = $1 and state = 'trained'

-- name: models_to_judge
select id, batch_id, base, path from models where state = 'trained' and path is not null order by batch_id

-- name: lock_current_model
-- Held to the end of the transaction by the one that moves the link to the model in use.
select pg_advisory_xact_lock(hashtextextended('codelupe.current-model', 0))

-- name: newest_promotion
-- Of those from a position on.
select data ->> 'model_id' as model_id, recorded_at from events
where position >= $1 and type = 'ModelPromoted' order by position desc limit 1

-- name: put_in_use
-- The model ($1) counts as promoted last, at the moment of its promotion ($2), whatever was decided before; returns its
-- path and base.
update models set state = 'promoted', decided_at = $2 where id = $1 and path is not null returning path, base

-- name: newest_model
select id, state, base, parent, losses, settings from models order by started_at desc, id desc limit 1

-- name: promoted_model
-- The one in use.
select id from models where state = 'promoted' order by decided_at desc limit 1

-- name: batches
select batches.id, batches.files, batches.characters, batches.repositories, batches.min_score, batches.created_at,
       models.id as model
from batches left join models on models.batch_id = batches.id order by batches.id

-- name: models
select id, state, base, batch_id as batch, losses, metrics, evaluation, evaluation_set, reasons, steps, samples, path, started_at, finished_at,
       decided_at
from models order by started_at, id

-- name: model
select id, state, base, batch_id as batch, parent, losses, metrics, evaluation, evaluation_set, reasons, steps, samples, path, started_at, finished_at,
       decided_at
from models where id = $1

-- name: batch
select id, files, characters, repositories, min_score, created_at from batches where id = $1

-- name: batch_repositories
-- Those of the files of a batch ($1), and of those that it learns from again.
select repositories.id, repositories.full_name, repositories.url, repositories.licence, processed_files.commit,
       count(*) as files
from (
    select file_id from batch_files where batch_id = $1 union all select file_id from batch_replays where batch_id = $1
) as members
join processed_files on processed_files.id = file_id
join repositories on repositories.id = processed_files.repository_id
group by repositories.id, processed_files.commit order by files desc, repositories.id

-- name: batch_file_list
-- The files of a batch ($1), and those that it learns from again.
select processed_files.repository_id, processed_files.commit, processed_files.file_path as path,
       processed_files.licence, encode(processed_files.content_hash, 'hex') as content_hash,
       processed_files.quality_score::float as score, split
from (
    select file_id, split from batch_files where batch_id = $1
    union all
    select file_id, 'replay' from batch_replays where batch_id = $1
) as members
join processed_files on processed_files.id = file_id
order by processed_files.repository_id, processed_files.file_path
