-- What the crawler writes.

-- name: record_repositories
-- Take in rows ($1, a JSON array) of repositories that are new or have a new revision; the ids of these.
select record_repositories($1) as id

-- name: forgotten_ids
-- Those of a source's repositories that were forgotten.
select repository_id from forgotten where starts_with(repository_id, $1 || ':')
