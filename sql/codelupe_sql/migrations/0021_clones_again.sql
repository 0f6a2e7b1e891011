-- Clones that are brought up to date and removed again, and hosts that want to be left alone.

alter table repositories
    -- The commit whose files were extracted last.
    add column extracted_commit text,
    -- When the clone was last made, compared or read.
    add column clone_used_at timestamptz,
    -- The position of the newest RepoAccepted that the downloader has handled: what is not behind it is a replay.
    add column accepted_position bigint;

update repositories set clone_used_at = cloned_at,
    extracted_commit = case when state in ('extracted', 'scored') then commit end
where commit is not null;

create index repositories_with_clone on repositories (clone_used_at) where path is not null;

-- Hosts that have answered a clone with 403 or 429 since they last served one.
create table clone_hosts (
    host text primary key,
    next_at timestamptz not null,
    -- How often it was found closed, each time after it had been left alone.
    waits integer not null,
    reason text not null
);
