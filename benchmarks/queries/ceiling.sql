-- Bare tables with the columns of the event log: what this Postgres and asyncpg can do at best.

-- name: create
create table ceiling (
    position bigint generated always as identity primary key,
    stream text not null,
    type text not null,
    version integer not null,
    id uuid not null,
    data jsonb not null,
    metadata jsonb not null,
    recorded_at timestamptz not null default clock_timestamp()
);
create table ceiling_tasks (
    position bigint primary key
) with (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 1000);
create table ceiling_checkpoint (
    position bigint not null
);
insert into ceiling_checkpoint values (0)

-- name: insert_event
insert into ceiling (stream, type, version, id, data, metadata) values ($1, $2, $3, $4, $5, $6)

-- name: make_tasks
insert into ceiling_tasks (position) select position from ceiling

-- name: take_task
-- Claim the next task, mark it done and read its event, all in one.
with taken as (
    delete from ceiling_tasks
    where position = (select position from ceiling_tasks order by position limit 1 for update skip locked)
    returning position
)
select data from ceiling join taken using (position)

-- name: read
select position, stream, type, version, id, data, metadata, recorded_at
from ceiling where position > $1 order by position limit $2

-- name: advance
update ceiling_checkpoint set position = $1

-- name: notify
notify ceiling
