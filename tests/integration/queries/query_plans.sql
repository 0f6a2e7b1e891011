-- A log of a million events, and what the tests of query plans ask for.

-- name: small_partitions
-- Of 400,000 positions: two of them will be full.
do $$
declare
    empty record;
begin
    for empty in select name from event_partitions loop
        execute format('drop table %I', empty.name);
    end loop;
    perform create_event_partitions(400000);
end $$

-- name: append_events
-- Twenty of each of 50,000 streams, and one stream of 10,000; one type is rare. Ids and times grow with the position.
insert into events (stream, type, version, id, data, metadata, recorded_at)
select case when n > 100000 and n <= 150000 and n % 5 = 0 then 'crawl' else 'repo/test:' || n % 50000 end,
       case when n % 10000 = 0 then 'BatchReady'
            else (array['RepoDiscovered', 'RepoAccepted', 'RepoCloned', 'FilesExtracted'])[1 + n / 7 % 4] end,
       1,
       (lpad(to_hex(1780000000000 + n), 12, '0') || '7' || left(md5(n::text), 3) || '8' || right(md5(n::text), 15))::uuid,
       format('{"repository_id": "test:%s", "url": "https://example.org/someone/something-%s", "n": %s}',
              n % 50000, md5(n::text), n)::jsonb,
       '{"by": "test.stage"}',
       timestamptz '2026-01-01' + n * interval '100 ms'
from generate_series(1, $1::integer) as n

-- name: index_full_partitions
select index_full_partitions()

-- name: more_partitions
select create_event_partitions(400000)

-- name: add_keys
insert into event_keys (key, position) select md5(n::text)::uuid, n from generate_series(1, 200000) as n

-- name: add_stream_heads
insert into stream_heads (stream, version) select 'repo/test:' || n, 20 from generate_series(0, 49999) as n

-- name: add_subscriptions
insert into subscriptions (name, position, delivered, types, dead_letter_blocks)
select 'test.' || name, 990000, 100000,
       case name when 'rare' then array['BatchReady']
                 else array['RepoDiscovered', 'RepoAccepted', 'RepoCloned', 'FilesExtracted'] end,
       name <> 'lenient'
from unnest(array['strict', 'lenient', 'backlog', 'batch', 'rare']) as name

-- name: add_tasks
-- Of two subscriptions 2,000 tasks are running, 2,000 dead letters, 1,000 ready and 1,000 queued behind running ones
-- of their streams. Another has a backlog of 20,000. The one that takes batches has none.
insert into tasks (subscription, stream, position, type, version, state, worker, token, dead_lettered_at, error, traceback)
select 'test.' || subscription, stream, position, type, version, state,
       case when state = 'running' then $1::uuid end, case when state = 'running' then gen_random_uuid() end,
       case when state = 'dead_lettered' then log_time() end, case when state = 'dead_lettered' then 'error' end,
       case when state = 'dead_lettered' then repeat('traceback ', 100) end
from events
join (values
    ('strict', 'running', 600000, 602000), ('strict', 'dead_lettered', 602000, 604000),
    ('strict', 'queued', 650000, 651000), ('strict', 'ready', 660000, 661000),
    ('lenient', 'running', 600000, 602000), ('lenient', 'dead_lettered', 602000, 604000),
    ('lenient', 'queued', 650000, 651000), ('lenient', 'ready', 660000, 661000),
    ('backlog', 'ready', 700000, 720000)
) as these (subscription, state, after, up_to) on position > after and position <= up_to

-- name: running_task
select subscription, stream, position, token from tasks
where subscription = 'test.strict' and state = 'running' order by position limit 1

-- name: dead_lettered_task
select id from tasks where subscription = 'test.strict' and state = 'dead_lettered' order by position limit 1

-- name: settle_down
vacuum (analyze) events, tasks, event_keys, stream_heads, subscriptions, workers

-- name: add_subscriptions_to_nothing
insert into subscriptions (name, position, types, dead_letter_blocks)
select name, 0, array['RepoDiscovered', 'RepoAccepted', 'RepoCloned', 'FilesExtracted'], true
from unnest(array['test.tasks', 'test.batches']) as name

-- name: append_events_of_many_streams
-- Round after round one of each stream.
insert into events (stream, type, version, id, data, metadata)
select 'repo/test:' || n % $1::integer, 'RepoCloned', 1, gen_random_uuid(), '{}', '{}'
from generate_series(1, $1::integer * $2::integer) as n
