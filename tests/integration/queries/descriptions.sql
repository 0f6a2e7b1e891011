-- What a crawl writes about repositories.

-- name: write_description
select write_repositories($1, $2)

-- name: mark_gone
update repositories set state = 'gone' where id = $1
