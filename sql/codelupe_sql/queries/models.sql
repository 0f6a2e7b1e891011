-- What is asked about one model, and about those that a repository has had a part in.

-- name: batch_contents
-- What is learned from for a batch ($1), also again, the most first.
select coalesce(language, 'unknown') as language, coalesce(licence, 'unknown') as licence, count(*) as files
from (
    select file_id from batch_files where batch_id = $1 union all select file_id from batch_replays where batch_id = $1
) as members
join processed_files on processed_files.id = file_id
group by 1, 2 order by files desc, language, licence

-- name: validation_files_as_json
-- Files ($2 at most) on which the training on a batch ($1) was watched, in an order that has nothing to do with where
-- they come from.
select json_build_object(
    'repository_id', repositories.id, 'repository', repositories.full_name, 'commit', processed_files.commit,
    'licence', processed_files.licence, 'path', file_path, 'language', processed_files.language,
    'content_hash', encode(content_hash, 'hex'), 'split', split, 'score', quality_score, 'content', content
)::text
from batch_files
join processed_files on processed_files.id = batch_files.file_id
join repositories on repositories.id = processed_files.repository_id
where batch_files.batch_id = $1 and split = 'validation' and content is not null
order by content_hash limit $2

-- name: repositories_named
-- The repositories, forgotten ones too, with an id, a name or an address ($1), and those that are the same by name or
-- address.
with named as (
    select * from repositories
    where id = $1 or lower(full_name) = lower($1) or repository_address(url) = repository_address($1)
)
select id, full_name, url, state from repositories
where exists (
    select from named where named.id = repositories.id or lower(named.full_name) = lower(repositories.full_name)
       or repository_address(named.url) = repository_address(repositories.url)
)
order by id

-- name: affected_models
-- The models that saw files of these repositories ($1), how many, and those that went on from one of them.
select models.id, state, base, batch_id as batch, parent, files
from models_that_saw($1) as saw join models using (id) order by started_at, models.id

-- name: models_in_use
-- The models that were ever promoted, that in use first, then those that were before it.
with promoted as (
    select data ->> 'model_id' as id, max(position) as position from events where type = 'ModelPromoted' group by 1
)
select id, base, path from promoted join models using (id) order by promoted.position desc
