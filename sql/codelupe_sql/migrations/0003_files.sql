-- Every file that was looked at: with its content if it was stored, with the rule that refused it if not.

-- Which rules judged a file, in the order in which they are asked: [{"name", "version", "settings"}].
create table rule_sets (
    id bigint generated always as identity primary key,
    rules jsonb not null
);

-- By a hash: what an index holds must be short.
create unique index rule_sets_rules on rule_sets (md5(rules::text));

-- The key of the hashes in placeholders for secrets: with it anybody who suspects a secret could try. It never leaves
-- the database: exports and models tell nothing by it.
create table redaction_key (
    key bytea not null default uuid_send(gen_random_uuid()),
    only_one boolean primary key default true check (only_one)
);

insert into redaction_key default values;

create table processed_files (
    id bigint generated always as identity primary key,
    repository_id text not null references repositories (id),
    commit text not null,
    file_path text not null,
    language text,
    -- An SPDX expression; null if nobody says.
    licence text,
    -- {"from": "metadata"} or {"from": "file", "path", "matches": [{"path", "id", "start", "end"}]}.
    licence_evidence jsonb,
    -- Whether the licence lets anybody use the file freely: the first thing that a survivor among copies is chosen by.
    is_permissive boolean not null default false,
    -- Without secrets and personal data: placeholders stand in their places.
    content text,
    -- xxh3-128 of the content as it is stored; one stored file a hash, over the whole database. Where secrets were not
    -- looked for, since the path alone decided, that of the content with line ends made \n.
    content_hash bytea,
    size_bytes bigint not null,
    characters integer,
    labels text[] not null default '{}',
    -- How many secrets of each kind were taken out of the content: {kind: number}; null if none.
    redactions jsonb,
    rejected_by text,
    -- {"rule", "version", "detail"} and what else the rule saw. A copy names the stored one, as it was then, by
    -- "file_id", "repository_id", "commit" and "path"; the id stays right.
    rejection jsonb,
    rule_set bigint references rule_sets (id),
    -- The weighted mean of the scores, 0 to 100; scores holds each dimension's value, version and reasons.
    quality_score real,
    scores jsonb,
    scored_at timestamptz,
    created_at timestamptz not null default now(),
    check ((content is null) = (rejected_by is not null)),
    unique (repository_id, commit, file_path)
);

create unique index processed_files_content_hash on processed_files (content_hash) where content is not null;
create index processed_files_trainable on processed_files (quality_score desc, id)
    where content is not null and quality_score is not null;
