-- What the downloader reads and writes.

-- name: clone_path
-- Where a repository's earlier clone lies, if it has one.
select path from repositories where id = $1

-- name: is_forgotten
select exists (select from forgotten where repository_id = $1)

-- name: record_clone
update repositories set state = 'cloned', commit = $2, path = $3, size_bytes = $4, cloned_at = now() where id = $1

-- name: record_empty
update repositories set state = 'empty' where id = $1
