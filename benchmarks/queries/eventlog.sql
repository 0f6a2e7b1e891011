-- What the benchmark of the event log needs beside the log's own statements.

-- name: create_ceiling_table
create table ceiling (
    position bigint generated always as identity primary key,
    stream text,
    type text,
    data text,
    recorded_at timestamptz default now()
)

-- name: insert_ceiling
insert into ceiling (stream, type, data) values ($1, $2, $3)

-- name: reset_log
truncate events, event_keys, tasks, subscriptions
