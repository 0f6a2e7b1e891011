-- The search index knows which event each row comes of, so that late writes lose, and what its filters and orders ask.

alter table repository_search
    -- The position of the event in the log; rows of before have 0 and are replaced by any.
    add column version bigint not null default 0,
    -- Nothing is left but the version, below which it does not come back.
    add column removed boolean not null default false,
    add column url text,
    add column licence text,
    add column forks integer not null default 0,
    add column topics text[] not null default '{}',
    add column pushed_at timestamptz,
    -- By what names are sorted.
    add column name_key text collate "C" not null default '',
    -- By what push times are sorted: milliseconds since 1970, or -1.
    add column pushed_key bigint not null default -1,
    -- What filters ask for, such as language:rust.
    add column keys text[] not null default '{}',
    alter column full_name set default '',
    alter column stars set default 0,
    alter column document set default '';

update repository_search set
    url = known.url, licence = known.licence, forks = known.forks, topics = known.topics, pushed_at = known.pushed_at,
    name_key = lower(known.full_name),
    pushed_key = coalesce((extract(epoch from known.pushed_at) * 1000)::bigint, -1),
    keys = array_remove(
        array['language:' || lower(known.language), 'licence:' || lower(known.licence)], null
    ) || array(select 'topic:' || lower(topic) from unnest(known.topics) as topic)
from repositories as known where known.id = repository_search.repository_id;

insert into repository_search (repository_id, version, removed)
select repository_id, 4611686018427387904, true from forgotten
on conflict (repository_id) do update set version = excluded.version, removed = true;

create index repository_search_keys on repository_search using gin (keys);
