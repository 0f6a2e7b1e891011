-- What the benchmark of clones puts in and counts.

-- name: delete_repositories
delete from repositories

-- name: add_repositories
insert into repositories (id, source, full_name, url, revision, state)
select id, 'bench', id, url, '1', 'accepted' from unnest($1::text[], $2::text[]) as it (id, url)

-- name: count_cloned
select count(*) from repositories where state = 'cloned' and commit is not null and path is not null
