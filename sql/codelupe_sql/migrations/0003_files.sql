-- Every file that was looked at: with its content if it was stored, with the rule that refused it if not.

create table processed_files (
    id bigint generated always as identity primary key,
    repository_id text not null references repositories (id),
    commit text not null,
    file_path text not null,
    language text,
    licence text,
    content text,
    -- xxh3-128 of the content with line ends made \n; one stored file a hash, over the whole database.
    content_hash bytea,
    size_bytes bigint not null,
    characters integer,
    labels text[] not null default '{}',
    rejected_by text,
    rejected_detail text,
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
