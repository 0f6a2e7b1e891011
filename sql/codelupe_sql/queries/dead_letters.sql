-- Dead letters. Each statement acts on those that fit: numbers, subscription, event type, LIKE pattern of the stream
-- and a part of the error, each null for any.

-- name: list_dead_letters
-- The oldest first, at most $7 of them, those after the one with the number $6 if that is given.
select page.*, events.id as event_id
from (
    select id, subscription, stream, position, type, attempts, crashes, dead_lettered_at, error, traceback from tasks
    where state = 'dead_lettered' and ($1::bigint[] is null or id = any($1))
      and ($2::text is null or subscription = $2) and ($3::text is null or type = $3)
      and ($4::text is null or stream like $4) and ($5::text is null or strpos(error, $5) > 0)
      and (dead_lettered_at, id) > (
          coalesce((
              select last.dead_lettered_at from tasks as last where last.id = $6 and last.state = 'dead_lettered'
          ), '-infinity'),
          coalesce($6::bigint, 0))
    order by dead_lettered_at, id limit $7
) as page
join events using (position) order by dead_lettered_at, page.id

-- name: count_dead_letters
select count(*) from tasks
where state = 'dead_lettered' and ($1::bigint[] is null or id = any($1))
  and ($2::text is null or subscription = $2) and ($3::text is null or type = $3)
  and ($4::text is null or stream like $4) and ($5::text is null or strpos(error, $5) > 0)

-- name: hold_cursors
-- Of the subscriptions whose dead letters these are; nothing is queued for them meanwhile.
select name from subscriptions
where name in (
    select subscription from tasks
    where state = 'dead_lettered' and ($1::bigint[] is null or id = any($1))
      and ($2::text is null or subscription = $2) and ($3::text is null or type = $3)
      and ($4::text is null or stream like $4) and ($5::text is null or strpos(error, $5) > 0)
)
order by name for update

-- name: retry_dead_letters
-- The same tasks come back with all their attempts before them, queued until their streams are settled.
update tasks set state = 'queued', attempts = 0, crashes = 0, run_at = log_time(), dead_lettered_at = null
where state = 'dead_lettered' and ($1::bigint[] is null or id = any($1))
  and ($2::text is null or subscription = $2) and ($3::text is null or type = $3)
  and ($4::text is null or stream like $4) and ($5::text is null or strpos(error, $5) > 0)
returning id, subscription, stream

-- name: drop_dead_letters
-- What is dropped counts no longer as delivered, and so not as done.
with dropped as (
    delete from tasks
    where state = 'dead_lettered' and ($1::bigint[] is null or id = any($1))
      and ($2::text is null or subscription = $2) and ($3::text is null or type = $3)
      and ($4::text is null or stream like $4) and ($5::text is null or strpos(error, $5) > 0)
    returning id, subscription, stream
), counted as (
    update subscriptions set delivered = delivered - dropped_here.n
    from (select subscription, count(*) as n from dropped group by subscription) as dropped_here
    where subscriptions.name = dropped_here.subscription
)
select id, subscription, stream from dropped

-- name: settle_streams
-- What was retried, or waited behind what was dropped, goes on.
select hold_and_settle_streams(subscription, array_agg(distinct stream))
from unnest($1::text[], $2::text[]) as touched (subscription, stream) group by subscription
