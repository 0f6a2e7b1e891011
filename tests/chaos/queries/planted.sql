-- What a run leaves that keeps every promise, and for each promise a way to break it by hand.

-- name: what_a_sound_run_leaves
insert into subscriptions (name, position, types)
select name, high_water_mark(), array_agg(event_type) from chaos_subscriptions group by name;
insert into chaos_effects (subscription, stream, position, attempt, version)
select name, stream, position, 1, '2' from chaos_subscriptions join events on type = event_type order by position

-- name: lost_event
delete from events where position = 3

-- name: doubled_event
insert into events (position, stream, type, version, id, data, metadata)
select nextval('events_position'), stream, type, version, id, data, metadata from events where position = 1

-- name: lost_effect
delete from chaos_effects where id = 1

-- name: doubled_effect
insert into chaos_effects (subscription, stream, position, attempt, version)
select subscription, stream, position, 2, '2' from chaos_effects
where id in (select max(id) from chaos_effects group by subscription)

-- name: effect_without_event
insert into chaos_effects (subscription, stream, position, attempt, version)
select subscription, stream, 1000000, 1, '2' from chaos_effects limit 1

-- name: broken_order
update chaos_effects set id = -id

-- name: lost_emission
delete from chaos_effects where position = (select max(position) from events);
delete from events where position = (select max(position) from events)

-- name: doubled_emission
insert into events (position, stream, type, version, id, data, metadata)
select nextval('events_position'), stream, type, version, id, data, metadata from events where type in ('RepoEmpty', 'RepoEchoed')
limit 1

-- name: stuck_task
insert into tasks (subscription, stream, position, type, version)
select name, 'batch/1', 1, 'BatchReady', 1 from subscriptions limit 1

-- name: dead_lettered_task
insert into tasks (subscription, stream, position, type, version, state)
select name, 'batch/1', 1, 'BatchReady', 1, 'dead_lettered' from subscriptions limit 1

-- name: forgotten_type
update subscriptions set types = array_remove(types, 'RepoEchoed')

-- name: effect_of_older_code
update chaos_effects set version = '1'

-- name: catch_up_left
insert into catch_ups (subscription, stream, position) select name, 'batch/1', 0 from subscriptions limit 1

-- name: later_than_now
insert into workers (id, lease_until, host, boot_id, pid, pid_started)
values (gen_random_uuid(), now() + interval '1 hour', 'host', '', 1, '')

-- name: cursor_off
update subscriptions set position = position - 1

-- name: worker_left
insert into workers (id, lease_until, host, boot_id, pid, pid_started)
values (gen_random_uuid(), now() - interval '1 second', 'host', '', 1, '')
