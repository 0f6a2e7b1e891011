-- Dead letters. Each statement acts on those that fit: numbers, subscription, event type, LIKE pattern of the stream
-- and a part of the error, each null for any.

-- name: list_dead_letters
select tasks.id, tasks.subscription, tasks.stream, tasks.position, tasks.attempts, tasks.crashes, tasks.dead_lettered_at,
       tasks.error, tasks.traceback, events.id as event_id, events.type
from tasks join events using (position)
where state = 'dead_lettered' and ($1::bigint[] is null or tasks.id = any($1))
  and ($2::text is null or subscription = $2) and ($3::text is null or events.type = $3)
  and ($4::text is null or tasks.stream like $4) and ($5::text is null or strpos(error, $5) > 0)
order by dead_lettered_at, tasks.id

-- name: count_dead_letters
select count(*) from tasks join events using (position)
where state = 'dead_lettered' and ($1::bigint[] is null or tasks.id = any($1))
  and ($2::text is null or subscription = $2) and ($3::text is null or events.type = $3)
  and ($4::text is null or tasks.stream like $4) and ($5::text is null or strpos(error, $5) > 0)

-- name: retry_dead_letters
-- The same tasks come back with all their attempts before them.
update tasks set state = 'ready', attempts = 0, crashes = 0, run_at = log_time(), dead_lettered_at = null
from events
where events.position = tasks.position and state = 'dead_lettered' and ($1::bigint[] is null or tasks.id = any($1))
  and ($2::text is null or subscription = $2) and ($3::text is null or events.type = $3)
  and ($4::text is null or tasks.stream like $4) and ($5::text is null or strpos(error, $5) > 0)
returning tasks.id

-- name: drop_dead_letters
-- What is dropped counts no longer as delivered, and so not as done.
with dropped as (
    delete from tasks using events
    where events.position = tasks.position and state = 'dead_lettered' and ($1::bigint[] is null or tasks.id = any($1))
      and ($2::text is null or subscription = $2) and ($3::text is null or events.type = $3)
      and ($4::text is null or tasks.stream like $4) and ($5::text is null or strpos(error, $5) > 0)
    returning tasks.id, subscription
), counted as (
    update subscriptions set delivered = delivered - dropped_here.n
    from (select subscription, count(*) as n from dropped group by subscription) as dropped_here
    where subscriptions.name = dropped_here.subscription
)
select id from dropped
