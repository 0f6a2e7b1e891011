-- Causes of batches.

-- Which event said that the files of a commit are scored: a projection of FilesScored, so that a batch of such files can
-- name the event that it comes of.
create table scored_commits (
    repository_id text,
    commit text,
    event_id uuid not null,
    -- The event's position; the newest event of a commit counts.
    position bigint not null,
    primary key (repository_id, commit)
);
