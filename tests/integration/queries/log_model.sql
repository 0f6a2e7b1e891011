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
delete from events; delete from event_keys; delete from tasks; delete from subscriptions; delete from workers;
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

-- name: dead_lettered_id
select id from tasks where subscription = $1 and position = $2 and state = 'dead_lettered'

-- name: workers
select id, lease_until from workers
