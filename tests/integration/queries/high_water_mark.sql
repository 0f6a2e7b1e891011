-- What tests of the high-water mark ask of the database.

-- name: count_looks
-- From now on the sequence "looks" counts how often a reader asks for the high-water mark.
create sequence looks;
alter function high_water_mark() rename to uncounted_high_water_mark;
create function high_water_mark() returns bigint language plpgsql volatile as $$
begin
    perform nextval('looks');
    return uncounted_high_water_mark();
end $$;

-- name: looks
select case when is_called then last_value else 0 end from looks

-- name: read_between
select position, data from events where position > $1 and position <= $2 order by position

-- name: go_to
-- Let the log have come to this position; one partition takes in all of these tests' positions.
select setval('events_position', $1), create_event_partitions(100000000000)

-- name: insert_by_hand
insert into events (stream, type, version, id, data, metadata)
values ('by/hand', 'BatchReady', 1, gen_random_uuid(), '{}', '{}')

-- name: insert_into_partition_by_hand
insert into events_0 (stream, type, version, id, data, metadata) values ($1, $2, $3, $4, $5, $6)

-- name: unguarded_partitions
-- Partitions whose inserts do not raise the append barrier.
select inhrelid::regclass::text as name from pg_inherits
where inhparent = 'events'::regclass
  and not exists (select from pg_trigger where tgrelid = inhrelid and tgname = 'append_barrier')
