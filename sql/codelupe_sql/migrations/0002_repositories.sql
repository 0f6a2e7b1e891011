-- Repositories: a projection of the repo events, one row each, keyed by "source:id" so that a rename changes nothing.

create table repositories (
    id text primary key,
    source text not null,
    full_name text not null,
    url text not null,
    revision text not null,
    description text,
    language text,
    licence text,
    stars integer not null default 0,
    forks integer not null default 0,
    size_kib bigint not null default 0,
    topics text[] not null default '{}',
    is_fork boolean not null default false,
    is_archived boolean not null default false,
    pushed_at timestamptz,
    discovered_at timestamptz not null default now(),
    -- How far it has come, and what was decided.
    state text not null default 'discovered'
        check (state in ('discovered', 'accepted', 'rejected', 'cloned', 'empty', 'extracted', 'scored')),
    score real,
    reasons jsonb not null default '[]',
    -- The clone: its commit, and its place below the repositories' folder.
    commit text,
    path text,
    size_bytes bigint,
    cloned_at timestamptz
);

create index repositories_by_state on repositories (state);
create index repositories_by_name on repositories (lower(full_name));

-- Whole repositories are held out of training, chosen by a hash of their id: the same ones on every machine.
-- share is between 0 and 1.
create function is_held_out(repository_id text, share double precision) returns boolean
language sql immutable as $$
    select ('x' || substr(md5(repository_id), 1, 8))::bit(32)::bigint < share * 4294967296
$$;

-- The search index over discovered repositories where no Elasticsearch is configured.
create table repository_search (
    repository_id text primary key,
    full_name text not null,
    description text,
    language text,
    stars integer not null,
    document tsvector not null
);

create index repository_search_document on repository_search using gin (document);
