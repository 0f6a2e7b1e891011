-- What the crawler writes.

-- name: upsert_repositories
-- Take in the repositories of some RepoDiscovered events ($1, a JSON array) that are new or have a new revision, and
-- return the ids of these. A repository with a new revision starts again; its old clone stays until it is replaced.
-- One that was forgotten is passed over, also under another id or address.
with discovered as materialized (
    select * from jsonb_to_recordset($1) as event (
        repository_id text, source text, full_name text, url text, revision text, description text, language text,
        licence text, stars integer, forks integer, size_kib bigint, topics text[], is_fork boolean,
        is_archived boolean, pushed_at timestamptz
    )
)
insert into repositories (
    id, source, full_name, url, revision, description, language, licence, stars, forks, size_kib, topics, is_fork,
    is_archived, pushed_at
)
select repository_id, source, full_name, url, revision, description, language, licence, stars, forks, size_kib, topics,
       is_fork, is_archived, pushed_at
from discovered
where not exists (
    select from repositories where repositories.id = repository_id and repositories.revision = discovered.revision
) and not is_forgotten(repository_id, full_name, url)
order by repository_id
on conflict (id) do update set
    full_name = excluded.full_name, url = excluded.url, revision = excluded.revision,
    description = excluded.description, language = excluded.language, licence = excluded.licence,
    stars = excluded.stars, forks = excluded.forks, size_kib = excluded.size_kib, topics = excluded.topics,
    is_fork = excluded.is_fork, is_archived = excluded.is_archived, pushed_at = excluded.pushed_at,
    discovered_at = now(), state = 'discovered', score = null, reasons = '[]'
where repositories.revision <> excluded.revision
returning id

-- name: forgotten_ids
-- Those of a source's repositories that were forgotten.
select repository_id from forgotten where starts_with(repository_id, $1 || ':')
