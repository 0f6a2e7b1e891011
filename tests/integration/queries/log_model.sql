-- What the model test of the log asks of the database.

-- name: create_effects
-- What handling an event leaves behind: one row each time.
create table effects (
    number bigint generated always as identity,
    subscription text not null,
    position bigint not null
)

-- name: begin_anew
-- An empty log whose first position is 1.
delete from events; delete from event_keys; delete from tasks; delete from catch_ups; delete from subscriptions;
delete from workers;
delete from effects; alter sequence events_position restart

-- name: log_time
select log_time()

-- name: add_effect
insert into effects (subscription, position) values ($1, $2)

-- name: effects
select subscription, position from effects order by number

-- name: subscriptions
select name, position, delivered from subscriptions

-- name: tasks
select subscription, position, stream, state, attempts, crashes, run_at, worker, token from tasks

-- name: types_apart
-- Those that were not wanted before, and have yet to come to the cursor.
select unnest(types) as type from catch_ups where subscription = $1 and stream is null

-- name: catching_up
-- Events behind the cursor that a part of the subscription has yet to come to.
select distinct events.position
from subscriptions join catch_ups on subscription = name
join events on events.position > catch_ups.position and events.position <= subscriptions.position
    and (catch_ups.stream is null or catch_ups.stream = events.stream)
    and events.type = any(coalesce(catch_ups.types, subscriptions.types))
where name = $1

-- name: in_log_only
-- Those of them that are no tasks yet, and what comes after the cursor.
select distinct events.position
from subscriptions
left join catch_ups on subscription = name
join events on events.type = any(subscriptions.types) and (
    events.position > subscriptions.position
    or events.position > catch_ups.position
       and (catch_ups.stream is null or catch_ups.stream = events.stream)
       and events.type = any(coalesce(catch_ups.types, subscriptions.types))
)
where name = $1 and not exists (
    select from tasks where tasks.subscription = name and tasks.position = events.position
)

-- name: dead_lettered_id
select id from tasks where subscription = $1 and position = $2 and state = 'dead_lettered'

-- name: workers
select id, lease_until from workers
