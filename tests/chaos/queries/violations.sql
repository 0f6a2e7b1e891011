-- Each query's name is a broken promise of the log, each of its rows a case of it.

-- name: lost_event
-- Its append was said to have succeeded.
select number from chaos_intended
where not exists (select from chaos_numbered where type = 'BatchReady' and chaos_numbered.number = chaos_intended.number)

-- name: doubled_event
select number, count(*), array_agg(position order by position) as positions
from chaos_numbered where type = 'BatchReady' group by number having count(*) > 1

-- name: lost_effect
select chaos_subscriptions.name as subscription, events.stream, events.position
from chaos_subscriptions join events on events.type = chaos_subscriptions.event_type
where not exists (
    select from chaos_effects
    where chaos_effects.subscription = chaos_subscriptions.name and chaos_effects.position = events.position
)

-- name: doubled_effect
select subscription, stream, position, count(*), array_agg(id order by id) as effects
from chaos_effects group by subscription, stream, position having count(*) > 1

-- name: effect_without_event
select subscription, stream, position from chaos_effects
where not exists (
    select from events where events.position = chaos_effects.position and events.stream = chaos_effects.stream
)

-- name: broken_order
-- Within a stream, an event took effect after a later one.
select subscription, stream, position, after from (
    select subscription, stream, position,
           lag(position) over (partition by subscription, stream order by id) as after
    from chaos_effects
) as handled
where position < after

-- name: lost_emission
select chaos_subscriptions.name as subscription, cause.number, cause.position
from chaos_subscriptions
join chaos_numbered as cause on cause.type = chaos_subscriptions.event_type and cause.number % emits_every = 0
where not exists (
    select from chaos_numbered as effect
    where effect.type in ('RepoEmpty', 'RepoEchoed') and effect.number = cause.number and effect.by = chaos_subscriptions.name
)

-- name: doubled_emission
select by, number, count(*), array_agg(position order by position) as positions
from chaos_numbered where type in ('RepoEmpty', 'RepoEchoed') group by by, number having count(*) > 1

-- name: stuck_task
select subscription, stream, position, state, attempts, crashes, run_at from tasks where state <> 'dead_lettered'

-- name: dead_lettered_task
select subscription, stream, position, attempts, error from tasks where state = 'dead_lettered'

-- name: forgotten_type
-- A subscription wants less than the newest code that declared it.
select name, event_type, types from chaos_subscriptions join subscriptions using (name) where event_type <> all(types)

-- name: effect_of_older_code
-- Of an event that this version does not want.
select subscription, stream, position, effects.version
from chaos_effects as effects join events using (stream, position)
where type = 'RepoEchoed' and effects.version = '1' and subscription = 'chaos.emitted'

-- name: catch_up_left
select subscription, stream, types, position, waiting from catch_ups

-- name: later_than_now
-- A clock that was set back left something to happen only when it has come so far again.
select 'task' as what, stream as which, run_at as at from tasks where run_at > log_time() + interval '30 minutes'
union all
select 'worker', id::text, lease_until from workers where lease_until > log_time() + interval '30 minutes'

-- name: cursor_off
-- A subscription that is not exactly where the log ends.
with mark as materialized (select high_water_mark() as position)
select name, subscriptions.position, mark.position as high_water_mark from subscriptions, mark
where subscriptions.position <> mark.position

-- name: open_barrier
-- The high-water mark stands below the head though no transaction appends.
with mark as materialized (select high_water_mark() as position)
select position as high_water_mark, last_value as head from mark, events_position where position <> last_value

-- name: worker_left
-- All processes have ended.
select id, pid, lease_until from workers
