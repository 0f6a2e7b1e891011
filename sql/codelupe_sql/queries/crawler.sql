-- What the crawler reads and writes.

-- name: lock_source
-- One transaction at a time records what a source ($1) said.
select pg_advisory_xact_lock(hashtext('crawler'), hashtext($1))

-- name: forgotten_among
-- Which of them ($1, a JSON array with id, full_name and url) must not come back.
select id from jsonb_to_recordset($1) as fresh (id text, full_name text, url text)
where is_forgotten(id, full_name, url)

-- name: known_repositories
select * from repositories where id = any($1::text[])

-- name: write_repositories
-- Add or replace descriptions ($1, a JSON array of rows); those of the ids $2 have new content and start again.
select write_repositories($1, $2)

-- name: mark_seen
-- Those of the repositories ($1) that are not written were described at $2 all the same, and are not asked for again.
update repositories set seen_at = $2 where id = any($1::text[])

-- name: mark_gone
-- Those of the repositories ($1) that are news.
update repositories set state = 'gone' where id = any($1::text[]) and state not in ('gone', 'forgotten')
returning id, full_name, url

-- name: oldest_known
-- At most $3 repositories of a source ($1) that it last described before $2.
select id, full_name, url, handle from repositories
where source = $1 and seen_at < $2 and state not in ('gone', 'forgotten')
order by seen_at, id limit $3

-- name: forgotten_ids
-- Those of a source's repositories that were forgotten.
select repository_id from forgotten where starts_with(repository_id, $1 || ':')

-- name: last_crawls
-- For each mode the last full crawl of a source ($1) that came to its end: when it began.
select mode, max(began_at) as began_at from crawls
where source = $1 and completed_at is not null and is_full
group by mode

-- name: count_known
-- How many repositories a source ($1) has given.
select count(*) from repositories where source = $1

-- name: last_outcomes
-- What the last crawl of a source ($1) in each mode came to that is at its end.
select last.mode, coalesce(sum(slice.requests), 0)::bigint as requests,
       coalesce(sum(slice.repositories), 0)::bigint as repositories,
       extract(epoch from last.completed_at - last.began_at)::float as seconds
from (select distinct on (mode) * from crawls where source = $1 and completed_at is not null
      order by mode, id desc) as last
left join crawl_slices as slice on slice.crawl = last.id
group by last.mode, last.completed_at, last.began_at

-- name: open_crawl
-- The crawl of a source ($1) in a mode ($2) that is under way; begins one for the terms $3 at $4, full or not ($5), if
-- there is none. Earlier ones go, but for the last full one.
with gone as (
    delete from crawls as earlier
    where source = $1 and mode = $2 and completed_at is not null and exists (
        select from crawls as later
        where later.source = $1 and later.mode = $2 and later.completed_at is not null and later.id > earlier.id
          and (later.is_full or not earlier.is_full))
)
insert into crawls (source, mode, terms, began_at, is_full) values ($1, $2, $3, $4, $5)
on conflict (source, mode) where completed_at is null do update
set is_full = crawls.is_full or excluded.is_full,
    terms = crawls.terms || (
        select coalesce(array_agg(term), '{}') from unnest(excluded.terms) as term where term <> all(crawls.terms))
returning id

-- name: open_slices
-- Add slices ($2, a JSON array) to a crawl ($1); those that it has already stay as they are.
insert into crawl_slices (crawl, query, budget, total)
select $1, query, budget, total
from rows from (jsonb_to_recordset($2) as (query text, budget text, total integer)) with ordinality
    as slice (query, budget, total, place)
order by place
on conflict (crawl, query) do nothing

-- name: take_slice
-- The slice of a source ($1) that an account ($2) asks for next, among the source's accounts ($3; see may_ask): the one
-- whose budget is ready first, its own before others, the newest first. $4 is the time, null for the server's.
with clock as materialized (select coalesce($4::timestamptz, clock_timestamp()) as now), chosen as (
    select slice.id
    from crawl_slices as slice join crawls on crawls.id = slice.crawl, clock,
         lateral (select greatest(clock.now, max(next_at)) as ready_at from crawl_budgets as budget
                  where (budget.source, budget.account) = ($1, $2) and budget.kind in ('', slice.budget)) as turn
    where crawls.source = $1 and crawls.completed_at is null
      and (slice.not_before is null or slice.not_before <= clock.now)
      and slice.state in ('open', 'in work') and may_ask(slice, $1, $2, $3, clock.now)
    order by turn.ready_at, slice.state = 'in work' and slice.account = $2 desc, slice.id desc
    limit 1
    for update of slice skip locked
)
update crawl_slices as slice set state = 'in work', account = $2
from chosen join crawls on true
where slice.id = chosen.id and crawls.id = slice.crawl
returning slice.*, crawls.mode, crawls.began_at

-- name: next_try
-- How long until a slice of a source ($1) that failed is to be tried again by an account ($2), among the source's accounts
-- ($3); null if there is none. $4 is the time.
select min(not_before) - clock.now as wait
from (select coalesce($4::timestamptz, clock_timestamp()) as now) as clock, crawl_slices as slice
join crawls on crawls.id = slice.crawl
where crawls.source = $1 and crawls.completed_at is null and slice.not_before is not null
  and slice.state in ('open', 'in work') and may_ask(slice, $1, $2, $3, clock.now)
group by clock.now

-- name: split_slice
-- A slice ($1), in work for an account ($2), has others in its place; nothing if another account has it by now.
update crawl_slices set state = 'split', requests = requests + 1, failures = 0, error = null, not_before = null
where id = $1 and account = $2 and state = 'in work' returning 1

-- name: advance_slice
-- A page of a slice ($1), in work for an account ($2), is recorded: the ids that were seen ($3), new and changed ($4,
-- $5), the total ($6, null if unknown), where it goes on ($7), and what could not be had ($8), which stands unless all
-- is seen in the end. Where it has come to its end with fewer seen than there are, it begins again, but for the third
-- time, or when something could not be had; asked again, it is at its end as soon as all were seen.
-- Returns the slice as it is then, nothing if another account has it by now.
with page as (
    select id, round, coalesce($6, total) as total, repositories + cardinality($3::text[]) as told,
           coalesce($8::text, case when failures = 0 then error end) as note,
           array(select distinct one from unnest(seen || $3::text[]) as one) as seen
    from crawl_slices where id = $1 and account = $2 and state = 'in work' for update
), counted as (
    select id, total, seen, case when total is null then told else cardinality(seen) end as repositories,
           note, $7::text is null and cardinality(seen) < total and note is null and round < 3 as is_asked_again,
           round > 1 and cardinality(seen) >= total as has_all
    from page
), judged as (
    select *, $7::text is null and is_asked_again is not true or has_all is true as is_over from counted
)
update crawl_slices as slice set
    cursor = $7,
    round = slice.round + coalesce(is_asked_again, false)::integer,
    state = case when is_over then 'complete' else 'in work' end,
    total = judged.total,
    seen = case when is_over or judged.total is null then '{}' else judged.seen end,
    repositories = judged.repositories,
    missed = case when is_over then coalesce(greatest(0, judged.total - judged.repositories), 0) else 0 end,
    new = slice.new + $4, changed = slice.changed + $5,
    requests = slice.requests + 1, failures = 0, not_before = null,
    error = case when is_over and judged.total <= judged.repositories then null else note end
from judged where slice.id = judged.id
returning slice.*

-- name: fail_slice
-- Asking for a slice ($1) on behalf of an account ($2) has failed ($3); it is tried again after 1 s, 8 s, 64 s and 8
-- minutes, and given up after that, or at once ($4). $5 is the time.
update crawl_slices set
    requests = requests + 1, failures = failures + 1, error = $3,
    state = case when $4 or failures >= 4 then 'failed' else 'in work' end,
    missed = case when $4 or failures >= 4 then greatest(0, coalesce(total, 0) - repositories) else missed end,
    not_before = coalesce($5::timestamptz, clock_timestamp()) + interval '1 second' * 8 ^ failures
where id = $1 and account = $2 and state = 'in work'
returning *

-- name: count_request
-- A request for a slice ($1) came to nothing, and is to be made again.
update crawl_slices set requests = requests + 1 where id = $1

-- name: crawl_progress
-- How far the crawls that are under way and the last ones that are at their end have come, of a source ($1; null for all)
-- in each mode. A slice whose total is not known is taken to hold as many repositories as the others on average; where some
-- were parted it may be much larger, so then no total is known.
select crawls.source, crawls.mode, crawls.began_at, crawls.completed_at,
       extract(epoch from coalesce(crawls.completed_at, now()) - crawls.began_at)::float as seconds,
       count(slice.id) filter (where slice.state in ('complete', 'failed')) as slices_done,
       count(slice.id) filter (where slice.state in ('open', 'in work')) as slices_to_go,
       count(slice.id) filter (where slice.state = 'failed') as slices_failed,
       coalesce(sum(slice.repositories), 0)::bigint as seen,
       (case when bool_and(slice.state in ('complete', 'failed', 'split')) then sum(slice.repositories + slice.missed)
             when bool_and(slice.total is not null) filter (where slice.state in ('open', 'in work'))
                 then sum(coalesce(slice.total, slice.repositories)) filter (where slice.state <> 'split')
             when not bool_or(slice.state = 'split') then count(slice.id) * avg(slice.total) end)::bigint as total,
       coalesce(sum(slice.new), 0)::bigint as new, coalesce(sum(slice.changed), 0)::bigint as changed,
       coalesce(sum(slice.missed), 0)::bigint as missed, coalesce(sum(slice.requests), 0)::bigint as requests
from (
    select distinct on (source, mode) * from crawls where source = coalesce($1, source)
    order by source, mode, completed_at is not null, id desc
) as crawls left join crawl_slices as slice on slice.crawl = crawls.id
group by crawls.id, crawls.source, crawls.mode, crawls.began_at, crawls.completed_at
order by crawls.source, crawls.mode

-- name: given_up_slices
-- The newest 20 slices that were given up, of the crawls that are under way and the last ones at their end.
select crawls.source, crawls.mode, slice.query, slice.missed, slice.error
from (select distinct on (source, mode) * from crawls order by source, mode, completed_at is not null, id desc) as crawls
join crawl_slices as slice on slice.crawl = crawls.id and slice.state = 'failed'
order by slice.id desc limit 20

-- name: waits
-- For how long each account makes no request, and why, where it is not only for its turn; an empty kind is all of them.
select source, account, kind, greatest(0, extract(epoch from next_at - clock_timestamp()))::float as seconds, reason
from crawl_budgets order by source, account, kind

-- name: complete_crawls
-- The crawls of a source ($1) that have just come to their end.
with over as (
    update crawls set completed_at = now()
    where source = $1 and completed_at is null and not exists (
        select from crawl_slices where crawl = crawls.id and state in ('open', 'in work'))
    returning *
)
select over.id as crawl, over.mode, count(slice.id) filter (where slice.state <> 'split') as slices,
       count(slice.id) filter (where slice.state = 'failed') as failed_slices,
       coalesce(sum(slice.repositories), 0) as seen, coalesce(sum(slice.new), 0) as new,
       coalesce(sum(slice.changed), 0) as changed, coalesce(sum(slice.missed), 0) as missed,
       coalesce(sum(slice.requests), 0) as requests
from over left join crawl_slices as slice on slice.crawl = over.id
group by over.id, over.mode order by over.id

-- name: take_turn
-- Take an account's ($1, $2) next turn for a request of a kind ($3), $4 after the one before, unless it is more than $5
-- away; $6 is the time, null for the server's. How long to wait for it, and why.
select * from take_turn($1, $2, $3, $4, $5, $6)

-- name: close_budget
-- No request of a kind ($3, '' for all) is made on behalf of an account ($1, $2) for the time $4, for the reason $5. $6 is
-- the time now, null for the server's.
insert into crawl_budgets as budget (source, account, kind, next_at, reason)
values ($1, $2, $3, coalesce($6::timestamptz, clock_timestamp()) + $4::interval, $5)
on conflict (source, account, kind) do update set
    next_at = greatest(budget.next_at, excluded.next_at),
    reason = case when budget.next_at > excluded.next_at then budget.reason else excluded.reason end

-- name: recall
select value from crawl_notes where source = $1 and key = $2

-- name: remember
insert into crawl_notes (source, key, value) values ($1, $2, $3)
on conflict (source, key) do update set value = excluded.value

-- name: count_by_state
select state, count(*) as n from repositories group by state order by state

-- name: count_by_rule
-- Why repositories were turned down, the most frequent rule first.
select reason ->> 'rule' as rule, count(*) as n
from repositories, jsonb_array_elements(reasons) as reason
where state = 'rejected' group by rule order by n desc, rule
