-- The search index over discovered repositories in Postgres full text.

-- name: index_repositories
-- Add or replace the repositories in a JSON array ($1), unless a row has a higher version, or the same one and $2 does
-- not say to repeat it.
insert into repository_search (
    repository_id, version, removed, full_name, url, description, language, licence, stars, forks, topics, pushed_at,
    name_key, pushed_key, keys, document
)
select repository_id, version, false, full_name, url, description, language, licence, stars, forks, topics, pushed_at,
       name_key, pushed_key, keys, document
from jsonb_to_recordset($1) as repository (
    repository_id text, version bigint, full_name text, url text, description text, language text, licence text,
    stars integer, forks integer, topics text[], pushed_at timestamptz, name_key text, pushed_key bigint, keys text[],
    document tsvector
)
order by repository_id
on conflict (repository_id) do update set
    version = excluded.version, removed = false, full_name = excluded.full_name, url = excluded.url,
    description = excluded.description, language = excluded.language, licence = excluded.licence,
    stars = excluded.stars, forks = excluded.forks, topics = excluded.topics, pushed_at = excluded.pushed_at,
    name_key = excluded.name_key, pushed_key = excluded.pushed_key, keys = excluded.keys, document = excluded.document
where repository_search.version < excluded.version or ($2 and repository_search.version = excluded.version)

-- name: remove_repositories
-- Empty the rows of these repositories ($1), each as of a version ($2). A row stays, so that no older version comes after.
insert into repository_search (repository_id, version, removed)
select repository_id, version, true from unnest($1::text[], $2::bigint[]) as removal (repository_id, version)
order by repository_id
on conflict (repository_id) do update set
    version = excluded.version, removed = true, full_name = excluded.full_name, url = excluded.url,
    description = excluded.description, language = excluded.language, licence = excluded.licence,
    stars = excluded.stars, forks = excluded.forks, topics = excluded.topics, pushed_at = excluded.pushed_at,
    name_key = excluded.name_key, pushed_key = excluded.pushed_key, keys = excluded.keys, document = excluded.document
where repository_search.version < excluded.version

-- name: search_repositories
-- The matches for a tsquery ($1), the first $15 in the order $11, behind the place $12, $13, $14 if there is one.
-- A term that is wanted counts by the best field that has it ($2 names, $3 topics, $4 descriptions, $5 languages).
-- They have all of the keys $6, one of $7 and one of $8, stars ($9) and a push time ($10).
with matches as (
    select repository_id, full_name, url, description, language, licence, stars, topics, pushed_at, name_key,
           pushed_key,
           (
               select coalesce(sum(case
                   when document @@ name::tsquery then 10 when document @@ topic::tsquery then 4
                   when document @@ about::tsquery then 2 when document @@ written_in::tsquery then 1 else 0
               end), 0)::float
               from unnest($2::text[], $3::text[], $4::text[], $5::text[]) as wanted (name, topic, about, written_in)
           ) * log(2 + stars::float) as rank
    from repository_search
    where document @@ $1::text::tsquery and not removed and keys @> $6 and ($7::text[] is null or keys && $7)
      and ($8::text[] is null or keys && $8) and stars >= $9 and pushed_key >= $10
), placed as (
    select matches.*,
           case $11 when 'stars' then stars when 'pushed' then pushed_key when 'name' then 0 else rank end::float as weight,
           case $11 when 'name' then name_key else '' end collate "C" as label
    from matches
)
select repository_id, full_name, url, description, language, licence, stars, topics, pushed_at, rank, weight, label
from placed
where $12::float is null or weight < $12
   or weight = $12 and (label, repository_id collate "C") > ($13::text collate "C", $14::text collate "C")
order by weight desc, label, repository_id collate "C"
limit $15

-- name: log_start
-- The first position that retention has left in the log; 0 while it has taken nothing.
select log_start()

-- name: changes
-- Events of these types ($3) behind a position ($1) up to another ($2), at most $4.
select position, type, version, data::text from events
where position > $1 and position <= $2 and type = any($3) order by position limit $4

-- name: known_repositories
-- The repositories whose ids come after $1, at most $2, as their sources described them last.
select id, state, source, full_name, url, revision, description, language, licence, stars, forks, topics, pushed_at
from repositories where id > $1 order by id limit $2

-- name: hold_reindex
-- Whether this transaction may build the index of this name: one process at a time, until the transaction ends.
select pg_try_advisory_xact_lock(20266, hashtext($1))

-- name: is_reindex_held
-- Whether a process is building the index of this name.
select exists (
    select from pg_locks
    where locktype = 'advisory' and granted and classid = 20266 and objid::bigint = hashtext($1)::bigint & 4294967295
      and database = (select oid from pg_database where datname = current_database())
)
