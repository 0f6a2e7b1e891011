-- Forgetting repositories. The queries that write run in this order in one transaction: each sees what the one before
-- has waited for.

-- name: matching_repositories
-- The repositories with an id, a name or an address ($1), and those that are the same by name or address.
with named as (
    select * from repositories
    where id = $1 or lower(full_name) = lower($1) or repository_address(url) = repository_address($1)
)
select id, full_name, url from repositories
where state <> 'forgotten' and exists (
    select from named where named.id = repositories.id or lower(named.full_name) = lower(repositories.full_name)
       or repository_address(named.url) = repository_address(repositories.url)
)
order by id

-- name: list_forgotten
select repository_id, full_name, url, forgotten_by as by, reason, forgotten_at from forgotten order by forgotten_at,
       repository_id

-- name: forgotten_named
select repository_id, full_name, forgotten_by as by, forgotten_at from forgotten
where repository_id = $1 or lower(full_name) = lower($1) or repository_address(url) = repository_address($1)
order by forgotten_at limit 1

-- name: lock_clusters
select lock_clusters()

-- name: hold
-- Waits for transactions that are adding files of these repositories, files of theirs to a batch, or a model to such a
-- batch, and holds new ones up.
select (select count(*) from (select from repositories where id = any($1) order by id for update) as held)
     + (select count(*) from (select from processed_files where repository_id = any($1) order by id for update) as held)

-- name: hold_batches
select id from batches where id in (
    select batch_id from batch_files join processed_files on processed_files.id = file_id
    where repository_id = any($1)
) order by id for update

-- name: remember
-- Take down what the repository ($1) is known by, who ($2) wanted it out and why ($3), and empty its row.
with remembered as (
    insert into forgotten (repository_id, full_name, url, forgotten_by, reason)
    select id, full_name, url, $2, $3 from repositories where id = $1
)
update repositories set
    state = 'forgotten', description = null, topics = '{}', terms = '{}', reasons = '[]', path = null, default_branch = null,
    handle = null
where id = $1

-- name: models_trained_on
select id from models_that_saw(array[$1::text]) order by id

-- name: leave_replays
-- Take the files out of what batches learn from again that no model was trained on.
delete from batch_replays using processed_files
where processed_files.id = file_id and repository_id = $1
  and not exists (select from models where models.batch_id = batch_replays.batch_id)

-- name: leave_batches
-- Take the files out of batches that no model was trained on.
with left_over as (
    delete from batch_files using processed_files
    where processed_files.id = file_id and repository_id = $1
      and not exists (select from models where models.batch_id = batch_files.batch_id)
    returning batch_id, characters
), lost as (
    select batch_id, count(*) as files, sum(characters) as characters from left_over group by batch_id
)
update batches set files = batches.files - lost.files, characters = batches.characters - lost.characters,
    repositories = batches.repositories - 1
from lost where batches.id = lost.batch_id
returning batches.id

-- name: keep_validating
-- Let a file be watched in each of these batches that has none left for it.
update batch_files set split = 'validation' where file_id in (
    select min(file_id) from batch_files where batch_id = any($1) group by batch_id having bool_and(split = 'train'))

-- name: clusters_of
select distinct cluster_id from processed_files where repository_id = $1 and cluster_id is not null

-- name: release_copies
-- Delete the rows of other repositories' files that were refused as copies of this one's, so that they can be stored.
with released as (
    delete from processed_files as copies using processed_files as original
    where original.repository_id = $1 and original.content is not null
      and copies.content_hash = original.content_hash and copies.rejected_by = 'exact-duplicate'
      and copies.repository_id <> $1
    returning copies.repository_id
)
select repository_id, count(*) as files from released
where repository_id in (select id from repositories where state <> 'forgotten')
group by repository_id order by repository_id

-- name: delete_files
-- All but those that models were trained on.
delete from processed_files
where repository_id = $1 and not exists (select from batch_files where file_id = processed_files.id)

-- name: empty_files
-- What models were trained on keeps path, commit, licence, hash and score; reasons may quote the content, so they go.
update processed_files set content = null, rejected_by = 'forgotten',
    rejection = '{"rule": "forgotten", "version": 1, "detail": "the repository was forgotten"}',
    scores = null, previous_scores = null
where repository_id = $1

-- name: settle_clusters
select settle_cluster(variadic $1::bigint[])
