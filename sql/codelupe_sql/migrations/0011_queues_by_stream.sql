-- A claim costs what can be claimed, whatever waits. Of each stream at most one task is ready or running; the others
-- are queued behind it, in no index that a claim reads, and whatever takes the one away makes the next one ready. No
-- stream has more than so many of them: the rest stays in the log, behind a cursor of the stream's own.
--
-- What a subscription wants is in the database, not only in the code that runs: an event that this code does not know
-- waits for code that does.

-- --- what subscriptions want ---

alter table subscriptions
    add column types text[],
    add column dead_letter_blocks boolean not null default true,
    add column declared_by text;
comment on column subscriptions.types is 'The event types it wants; null until code that says so has registered it.';
comment on column subscriptions.declared_by is 'The version of the plugin that last changed what it wants.';

-- Where a part of a subscription is behind its cursor: one stream, whose tasks are many or whose events are handed out
-- again, or the types that it did not want before, or those of one stream. What lies after the position and up to the
-- cursor has yet to become tasks, and the cursor passes it by. "waiting" counts events that are known to. A stream is
-- looked at again when no queued task of it is left at or below next_feed.
create table catch_ups (
    id bigint generated always as identity primary key,
    subscription text not null,
    stream text,
    types text[],
    position bigint not null,
    waiting bigint not null default 0,
    next_feed bigint not null default 0,
    unique nulls not distinct (subscription, stream, types)
);

-- --- tasks ---

drop index tasks_ready;
drop index tasks_running;
drop index tasks_dead_lettered;
alter table tasks add column type text, add column version integer;
update tasks set type = events.type, version = events.version from events where events.position = tasks.position;
alter table tasks alter column type set not null, alter column version set not null;
alter table tasks drop constraint tasks_state_check;
alter table tasks add check (state in ('queued', 'ready', 'running', 'dead_lettered'));

update tasks set state = 'queued' where state = 'ready';
update tasks set state = 'ready'
from (select subscription, stream, min(position) as position from tasks where state = 'queued' group by 1, 2) as first
where tasks.subscription = first.subscription and tasks.stream = first.stream and tasks.position = first.position
  and not exists (
      select from tasks as other
      where other.subscription = first.subscription and other.stream = first.stream
        and (other.state = 'running' or other.state = 'dead_lettered' and other.position < first.position)
  );

create unique index tasks_active on tasks (subscription, stream) where state in ('ready', 'running');
create index tasks_ready on tasks (subscription, type, version, run_at, position) where state = 'ready';
create index tasks_queued on tasks (subscription, stream, position) where state = 'queued';
create index tasks_dead on tasks (subscription, stream, position) where state = 'dead_lettered';
create index tasks_dead_lettered on tasks (dead_lettered_at, id) where state = 'dead_lettered';
create index tasks_dead_lettered_id on tasks (id) where state = 'dead_lettered';

-- --- which task of a stream is ready ---

-- Whether a task that is queued at this position, and the first of its stream, may become ready: not behind a dead
-- letter that blocks, nor ahead of events of its stream that are still in the log only.
create function may_be_ready(of_subscription text, of_stream text, at_position bigint) returns boolean
language plpgsql stable as $$
begin
    return not exists (
        select from catch_ups
        where subscription = of_subscription and stream = of_stream and position < at_position and (
            types is null or (
                select type from tasks
                where subscription = of_subscription and stream = of_stream and position = at_position) = any(types))
    ) and not (
        exists (
            select from tasks
            where subscription = of_subscription and stream = of_stream and state = 'dead_lettered'
              and position < at_position
        ) and (select dead_letter_blocks from subscriptions where name = of_subscription)
    );
end $$;

-- Makes the first queued task of a stream ready, whose active one the caller has just taken away.
create function ready_next_task(of_subscription text, of_stream text) returns void language plpgsql as $$
declare
    next bigint;
begin
    next := (
        select position from tasks where subscription = of_subscription and stream = of_stream and state = 'queued'
        order by position limit 1
    );
    if next is not null and may_be_ready(of_subscription, of_stream, next) then
        update tasks set state = 'ready'
        where subscription = of_subscription and stream = of_stream and position = next;
    end if;
end $$;

-- Sees to it that the active task of each of these streams stays until this transaction ends, so that what takes it
-- away then finds what this transaction queues; returns the streams whose active task is being taken away right now.
-- The caller holds the subscription's cursor.
create function hold_streams(of_subscription text, streams text[]) returns text[] language sql volatile as $$
    with held as materialized (
        select stream from tasks
        where subscription = of_subscription and stream = any(streams) and state in ('ready', 'running')
        for key share skip locked
    )
    select coalesce(array_agg(stream), '{}') from tasks
    where subscription = of_subscription and stream = any(streams) and state in ('ready', 'running')
      and stream not in (select stream from held)
$$;

-- Makes the first task of each of these streams the ready one, unless one is running; the streams are held.
create function settle_streams(of_subscription text, streams text[]) returns void language plpgsql as $$
begin
    update tasks as later set state = 'queued'
    where subscription = of_subscription and stream = any(streams) and state = 'ready' and exists (
        select from tasks as earlier
        where earlier.subscription = of_subscription and earlier.stream = later.stream and earlier.state = 'queued'
          and earlier.position < later.position
    );
    update tasks set state = 'ready'
    from (
        select asked.stream, first.position
        from (select distinct stream from unnest(streams) as asked (stream)) as asked
        cross join lateral (
            select position from tasks
            where subscription = of_subscription and tasks.stream = asked.stream and state = 'queued'
            order by position limit 1
        ) as first
        where not exists (
            select from tasks as active
            where active.subscription = of_subscription and active.stream = asked.stream
              and active.state in ('ready', 'running')
        ) and may_be_ready(of_subscription, asked.stream, first.position)
    ) as first
    where tasks.subscription = of_subscription and tasks.stream = first.stream and tasks.position = first.position;
end $$;

-- The same for streams that are not held. Those whose task is being taken away right now, which a handler's transaction
-- may do for as long as it likes, are left to the feeder: by a catch-up that has nothing to catch up with.
create function hold_and_settle_streams(of_subscription text, streams text[]) returns void language plpgsql as $$
declare
    unheld constant text[] := hold_streams(of_subscription, streams);
begin
    insert into catch_ups (subscription, stream, position)
    select name, unheld.stream, position from subscriptions, unnest(unheld) as unheld (stream)
    where name = of_subscription
    on conflict (subscription, stream, types) do update set next_feed = 0;
    perform settle_streams(
        of_subscription, array(select stream from unnest(streams) as asked (stream) where stream <> all(unheld)));
end $$;

-- --- from events to tasks ---

-- Queues events as tasks of their streams, such that of each stream at most so many are queued ahead of what comes after
-- them. Returns how many tasks are new, and for each stream of which some were left out the first of those and how many
-- they are. The caller holds the subscription's cursor.
create function queue_tasks(
    of_subscription text, streams text[], positions bigint[], types text[], versions integer[], at_most integer,
    out made integer, out left_streams text[], out left_positions bigint[], out left_counts bigint[]
) language plpgsql as $$
declare
    unheld constant text[] := hold_streams(of_subscription, streams);
begin
    with asked as materialized (
        select stream, position, type, version, row_number() over (partition by stream order by position) as ordinal
        from unnest(streams, positions, types, versions) as asked (stream, position, type, version)
        where not exists (
            select from tasks
            where tasks.subscription = of_subscription and tasks.stream = asked.stream
              and tasks.position = asked.position
        )
    ), room as materialized (
        select stream, case when stream = any(unheld) then 0 else at_most - queued.n end as n
        from (select stream, min(position) as first from asked group by stream) as streams
        cross join lateral (
            select count(*) as n from (
                select from tasks
                where subscription = of_subscription and tasks.stream = streams.stream and state = 'queued'
                  and tasks.position < streams.first
                limit at_most
            ) as queued
        ) as queued
    ), added as (
        insert into tasks (subscription, stream, position, type, version, state)
        select of_subscription, stream, position, type, version, 'queued'
        from asked join room using (stream) where ordinal <= room.n
        on conflict do nothing
        returning 1
    ), left_out as (
        select stream, min(position) as position, count(*) as n
        from asked join room using (stream) where ordinal > room.n group by stream
    )
    select (select count(*) from added), array_agg(stream), array_agg(position), array_agg(n)
    into made, left_streams, left_positions, left_counts from left_out;
    perform settle_streams(
        of_subscription, array(select stream from unnest(streams) as asked (stream) where stream <> all(unheld)));
end $$;

-- Where in the queue of a stream it is time to look into the log for more: half way.
create function next_feed(of_subscription text, of_stream text, at_most integer) returns bigint
language sql volatile as $$
    select coalesce((
        select position from tasks where subscription = of_subscription and stream = of_stream and state = 'queued'
        order by position offset at_most / 2 limit 1
    ), 0)
$$;

-- Whether it is time to take a catch-up further: always if it is of whole types; a stream's when its queue is half empty,
-- or holds only what has to wait for this catch-up.
create function catch_up_is_due(it catch_ups) returns boolean language plpgsql stable as $$
begin
    return it.stream is null or not exists (
        select from tasks
        where subscription = it.subscription and stream = it.stream and state = 'queued'
          and position <= least(it.next_feed, it.position)
    );
end $$;

-- Makes tasks of events; what a stream has no room for is left to a catch-up of its own, as are all later events of a
-- stream that has one. Where the events are themselves from a catch-up, of_types says of which. Returns how many tasks
-- were made. The caller holds the subscription's cursor.
create function make_tasks(
    of_subscription text, streams text[], positions bigint[], types text[], versions integer[], at_most integer,
    of_types text[] default null
) returns integer language plpgsql as $$
#variable_conflict use_column
declare
    queued record;
begin
    if exists (select from catch_ups where subscription = of_subscription and stream = any(streams)) then
        with asked as (
            select * from unnest(streams, positions, types, versions) as asked (stream, position, type, version)
        ), behind as materialized (
            select catch_ups.id, asked.* from asked join catch_ups
                on catch_ups.subscription = of_subscription and catch_ups.stream = asked.stream
               and catch_ups.position < asked.position
               and (catch_ups.types is null or asked.type = any(catch_ups.types))
        ), counted as (
            update catch_ups set waiting = waiting + n
            from (select id, count(*) as n from behind group by id) as more where more.id = catch_ups.id
        )
        select array_agg(stream order by position), array_agg(position order by position),
               array_agg(type order by position), array_agg(version order by position)
        into streams, positions, types, versions
        from asked where position not in (select position from behind);
        if streams is null then
            return 0;
        end if;
    end if;
    queued := queue_tasks(of_subscription, streams, positions, types, versions, at_most);
    if queued.left_streams is not null then
        insert into catch_ups (subscription, stream, types, position, waiting, next_feed)
        select of_subscription, stream, of_types, position - 1, n, next_feed(of_subscription, stream, at_most)
        from unnest(queued.left_streams, queued.left_positions, queued.left_counts) as rest (stream, position, n)
        on conflict (subscription, stream, types) do update set position = least(catch_ups.position, excluded.position);
    end if;
    return queued.made;
end $$;

-- Takes catch-ups a step forward, each over no more than fifty times at_most positions; returns how many tasks were
-- made. Those of whole types only if with_types: a batch subscription reads such itself. The caller holds the cursor.
create function feed_catch_ups(of_subscription text, with_types boolean, at_most integer) returns integer
language plpgsql as $$
#variable_conflict use_column
declare
    cursor record;
    it record;
    reached bigint;
    found record;
    queued record;
    made integer := 0;
begin
    select position, types into cursor from subscriptions where name = of_subscription;
    for it in
        select * from catch_ups
        where subscription = of_subscription and (with_types or stream is not null) and catch_up_is_due(catch_ups)
        order by id
    loop
        if it.stream is not null and cardinality(hold_streams(of_subscription, array[it.stream])) > 0 then
            continue;  -- in a moment
        end if;
        reached := least(cursor.position, it.position + 50 * at_most);
        select array_agg(stream) as streams, array_agg(position) as positions, array_agg(type) as types,
               array_agg(version) as versions, count(*) as n, max(position) as last
        into found
        from (
            select position, stream, type, version from events
            where position > it.position and position <= reached and type = any(coalesce(it.types, cursor.types))
              and (it.stream is null or stream = it.stream)
            order by position limit at_most
        ) as events;
        if found.n = at_most then
            reached := found.last;
        end if;
        if found.n > 0 and it.stream is null then
            made := made + make_tasks(
                of_subscription, found.streams, found.positions, found.types, found.versions, at_most,
                it.types);
        elsif found.n > 0 then
            queued := queue_tasks(
                of_subscription, found.streams, found.positions, found.types, found.versions, at_most);
            made := made + queued.made;
            reached := coalesce(queued.left_positions[1] - 1, reached);
            found.n := found.n - coalesce(queued.left_counts[1], 0);
        end if;
        if reached >= cursor.position then
            delete from catch_ups where id = it.id;
        else
            update catch_ups set
                position = reached, waiting = greatest(waiting - found.n, 0),
                next_feed = case when stream is null then 0 else next_feed(of_subscription, stream, at_most) end
            where id = it.id;
        end if;
        if it.stream is not null then
            perform settle_streams(of_subscription, array[it.stream]);  -- it may go as far as it is fed now
        end if;
    end loop;
    return made;
end $$;

drop function feed_and_claim(text[], text[], integer, uuid, text[], bigint[], integer[], boolean[]);
drop function feed_tasks(text[], text[], integer);
drop function claim_tasks(text, uuid, integer, boolean);
drop function open_batch(text, text[], integer, integer);

-- Turns events below the high-water mark into tasks and moves the cursors of these subscriptions, looking at no more
-- than fifty times at_most positions. A cursor that another process moves is left alone. Returns how many tasks each
-- subscription ever had, and whether it has seen all there is. That a crash forgets it does no harm: cursor and tasks
-- are forgotten together.
create function feed_tasks(subscription_names text[], at_most integer)
returns table (subscription_name text, delivered bigint, caught_up boolean) language plpgsql
-- As for claims, below: from task to task by index.
set plan_cache_mode = force_generic_plan
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
#variable_conflict use_column
declare
    high_water constant bigint := high_water_mark();
    cursor record;
    horizon bigint;
    found record;
    made integer;
begin
    perform set_config('synchronous_commit', 'off', true);
    for cursor in
        select name, position, types, exists (select from catch_ups where subscription = name) as is_behind
        from subscriptions
        where name = any(subscription_names) and types is not null
          and (position < high_water or exists (select from catch_ups where subscription = name))
        order by name for update of subscriptions skip locked
    loop
        made := 0;
        horizon := cursor.position;
        if cursor.position < high_water then
            horizon := least(high_water, cursor.position + 50 * at_most);
            if cursor.is_behind then
                cursor.types := array(
                    select type from unnest(cursor.types) as wanted (type)
                    where not exists (
                        select from catch_ups
                        where subscription = cursor.name and stream is null and type = any(catch_ups.types)));
            end if;
            with batch as materialized (
                select position, stream, type, version from events
                where position > cursor.position and position <= horizon and type = any(cursor.types)
                order by position limit at_most
            ), free as (  -- what finds its stream without a task, in one statement; what does not, below
                insert into tasks (subscription, stream, position, type, version, state)
                select distinct on (stream) cursor.name, stream, position, type, version, 'ready' from batch
                where not exists (
                    select from tasks where tasks.subscription = cursor.name and tasks.stream = batch.stream
                ) and not exists (
                    select from catch_ups where catch_ups.subscription = cursor.name and catch_ups.stream = batch.stream
                )
                order by stream, position
                on conflict do nothing
                returning position
            )
            select (select count(*) from batch) as n, (select max(position) from batch) as last,
                   (select count(*) from free) as made, array_agg(stream) as streams, array_agg(position) as positions,
                   array_agg(type) as types, array_agg(version) as versions
            into found
            from (select * from batch where position not in (select position from free) order by position) as rest;
            made := found.made;
            if found.n = at_most then
                horizon := found.last;
            end if;
            if found.streams is not null then
                made := made + make_tasks(
                    cursor.name, found.streams, found.positions, found.types, found.versions, at_most);
            end if;
            update subscriptions set position = horizon where name = cursor.name;
        end if;
        made := made + feed_catch_ups(cursor.name, true, at_most);
        if made > 0 then
            update subscriptions set delivered = delivered + made where name = cursor.name;
        end if;
    end loop;
    return query
    select name, delivered, position >= high_water and not has_catch_up_to_feed(name) from subscriptions
    where name = any(subscription_names);
end $$;

-- Whether more of what is in the log could become tasks of this subscription than its cursor says.
create function has_catch_up_to_feed(of_subscription text) returns boolean language sql stable as $$
    select exists (
        select from catch_ups
        where subscription = of_subscription and catch_up_is_due(catch_ups)
    )
$$;

-- Takes ready tasks whose event is of one of these types and versions, those that have waited longest first. A claim
-- that a crash forgets is made again, and the work under the forgotten one cannot be completed.
create function claim_tasks(
    subscription_name text, claimer uuid, at_most integer, types text[], versions integer[]
) returns table (
    task_token uuid, attempts integer, crashes integer, checkpoint jsonb, "position" bigint, stream text, type text,
    version integer, id uuid, data jsonb, metadata jsonb, recorded_at timestamptz
) language plpgsql
-- One plan for all claims, which goes from task to task by index, whatever the planner thinks of the limit, and also
-- when it is made while the table is empty.
set plan_cache_mode = force_generic_plan
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
#variable_conflict use_column
begin
    perform set_config('synchronous_commit', 'off', true);
    return query
    with known as materialized (
        select ready.stream, ready.position, ready.run_at from unnest(types, versions) as known (type, version)
        cross join lateral (
            select stream, position, run_at from tasks
            where subscription = subscription_name and state = 'ready' and tasks.type = known.type
              and tasks.version = known.version and run_at <= log_time()
            order by run_at, position limit at_most for no key update skip locked
        ) as ready
    ), claimed as (
        update tasks set state = 'running', worker = claimer, token = gen_random_uuid(), started_at = log_time()
        from (select stream, position from known order by run_at, position limit at_most) as ready
        where subscription = subscription_name and tasks.stream = ready.stream and tasks.position = ready.position
          and exists (select from workers where id = claimer)
        returning tasks.token, tasks.attempts, tasks.crashes, tasks.checkpoint, tasks.position
    )
    select claimed.token, claimed.attempts, claimed.crashes, claimed.checkpoint, events.position, events.stream,
           events.type, events.version, events.id, events.data, events.metadata, events.recorded_at
    from claimed join events on events.position = claimed.position order by events.position;
end $$;

-- Feeds subscriptions, and where that brought something takes what a worker wants of it, so that an event reaches an
-- idle worker in one round trip. known[i] is what was delivered to subscription_names[i] when the worker last looked;
-- it can handle the types and versions whose names stand beside them. Returns a row for each subscription, without a
-- token, and one for each task taken.
create function feed_and_claim(
    subscription_names text[], known bigint[], wanted integer[], at_most integer, claimer uuid,
    handled_by text[], handled_types text[], handled_versions integer[]
) returns table (
    subscription_name text, delivered bigint, caught_up boolean,
    task_token uuid, attempts integer, crashes integer, checkpoint jsonb, "position" bigint, stream text, type text,
    version integer, id uuid, data jsonb, metadata jsonb, recorded_at timestamptz
) language plpgsql as $$
declare
    fed record;
    i integer;
begin
    for fed in select * from feed_tasks(subscription_names, at_most) loop
        return query select fed.subscription_name, fed.delivered, fed.caught_up, null::uuid, null::integer,
            null::integer, null::jsonb, null::bigint, null::text, null::text, null::integer, null::uuid, null::jsonb,
            null::jsonb, null::timestamptz;
        i := array_position(subscription_names, fed.subscription_name);
        if fed.delivered <> known[i] and wanted[i] > 0 then
            return query select fed.subscription_name, fed.delivered, fed.caught_up, claimed.*
            from claim_tasks(
                fed.subscription_name, claimer, wanted[i],
                array(select handled_types[n] from generate_subscripts(handled_by, 1) as n
                      where handled_by[n] = fed.subscription_name),
                array(select handled_versions[n] from generate_subscripts(handled_by, 1) as n
                      where handled_by[n] = fed.subscription_name)
            ) as claimed;
        end if;
    end loop;
end $$;

-- Deletes a task that is done, or fails with CL001: it belongs to another worker by now.
create or replace function finish_task(of_subscription text, of_stream text, at_position bigint, by_token uuid)
returns void language plpgsql as $$
declare
    ignored text;
begin
    delete from tasks
    where subscription = of_subscription and stream = of_stream and position = at_position and token = by_token;
    if not found then
        raise exception 'the task belongs to another worker' using errcode = 'CL001';
    end if;
    ignored := ready_next_task(of_subscription, of_stream);
end $$;

-- Makes a task ready again after a while, unless an earlier one of its stream has come meanwhile, which is first then;
-- returns whether the claim still held.
create function retry_task(
    of_subscription text, of_stream text, at_position bigint, by_token uuid,
    failures integer, after interval, with_error text, with_traceback text
) returns boolean language plpgsql as $$
begin
    perform from tasks  -- waits for what queues in its stream, and then finds it
    where subscription = of_subscription and stream = of_stream and position = at_position and token = by_token
    for update;
    update tasks set state = 'queued', worker = null, token = null, attempts = attempts + failures,
        run_at = log_time() + after, error = with_error, traceback = with_traceback
    where subscription = of_subscription and stream = of_stream and position = at_position and token = by_token;
    if not found then
        return false;
    end if;
    perform ready_next_task(of_subscription, of_stream);
    return true;
end $$;

-- Gives tasks back that these workers run, and those of workers that are no more if also_orphans; those with the tokens
-- "crashed" ended with their worker, all of them if it is null. Returns how many.
create function give_tasks_back(of_workers uuid[], also_orphans boolean, crashed uuid[]) returns integer
language plpgsql as $$
declare
    it record;
    given integer := 0;
begin
    for it in
        select subscription, stream, position from tasks
        where state = 'running' and (
            worker = any(of_workers) or also_orphans and not exists (select from workers where id = tasks.worker))
        order by subscription, stream for update  -- waits for what queues in these streams, and then finds it
    loop
        update tasks set state = 'queued', worker = null, token = null,
            crashes = crashes + (crashed is null or token = any(crashed))::integer
        where subscription = it.subscription and stream = it.stream and position = it.position;
        perform ready_next_task(it.subscription, it.stream);
        given := given + 1;
    end loop;
    return given;
end $$;

-- Gives a task up; returns whether the claim still held. Its stream goes on unless its dead letters block.
create function dead_letter_task(
    of_subscription text, of_stream text, at_position bigint, by_token uuid, with_error text, with_traceback text
) returns boolean language plpgsql as $$
begin
    perform from tasks  -- waits for one that queues behind it, and then finds what was queued
    where subscription = of_subscription and stream = of_stream and position = at_position and token = by_token
    for update;
    update tasks set state = 'dead_lettered', worker = null, token = null, attempts = attempts + 1,
        dead_lettered_at = log_time(), error = with_error, traceback = with_traceback
    where subscription = of_subscription and stream = of_stream and position = at_position and token = by_token;
    if not found then
        return false;
    end if;
    perform ready_next_task(of_subscription, of_stream);
    return true;
end $$;

-- Locks a subscription's cursor for this transaction, unless another process has it, and reads the first few events
-- of a batch behind it, or behind a catch-up of types that it did not want before; it looks at no more than fifty times
-- at_most positions. Each row says which catch-up it is, where that or the cursor stands, how far the batch reaches,
-- which types it is of, whether there is more, and whether some of the subscription's events have become tasks;
-- without events there is one such row. A function keeps its rows until it ends, so the caller reads longer batches
-- with a query of its own.
create function open_batch(of_subscription text, at_most integer, few integer)
returns table (
    catch_up bigint, after bigint, reached bigint, types text[], more boolean, has_tasks boolean,
    "position" bigint, stream text, type text, version integer, id uuid, data jsonb
) language plpgsql as $$
#variable_conflict use_column
declare
    high_water constant bigint := high_water_mark();
    cursor record;
    it record;
    target bigint;
    horizon bigint;
    made integer := 0;
    tasks_exist boolean;
begin
    select null::bigint as id, position, types into cursor from subscriptions
    where name = of_subscription and types is not null for update skip locked;
    if cursor.position is null then
        return;
    end if;
    target := high_water;
    if exists (select from catch_ups where subscription = of_subscription) then
        made := feed_catch_ups(of_subscription, false, at_most);
        update subscriptions set delivered = delivered + made where name = of_subscription and made > 0;
        select id, position, types into it from catch_ups
        where subscription = of_subscription and stream is null order by id limit 1;
        if it.id is not null then
            target := cursor.position;
            cursor := it;
        end if;
    end if;
    if cursor.position >= target and made = 0 then
        return;
    end if;
    horizon := greatest(least(target, cursor.position + 50 * at_most), cursor.position);
    tasks_exist := (  -- in this order, else the planner may look through the tasks of all subscriptions for one
        select position from tasks where subscription = of_subscription order by stream, position limit 1
    ) is not null or exists (select from catch_ups where subscription = of_subscription and stream is not null);
    return query
    select cursor.id, cursor.position, horizon, cursor.types, horizon < target or cursor.id is not null, tasks_exist,
           events.position, events.stream, events.type, events.version, events.id, events.data
    from (values (1)) as always
    left join lateral (
        select * from events
        where events.position > cursor.position and events.position <= horizon and events.type = any(cursor.types)
        order by events.position limit least(at_most, few)
    ) as events on true;
end $$;

-- Moves a cursor, or a catch-up, which goes once it has come to its end.
create function move_cursor(of_subscription text, catch_up bigint, reached bigint, handled bigint) returns void
language plpgsql as $$
begin
    if catch_up is null then
        update subscriptions set position = reached, delivered = delivered + handled where name = of_subscription;
        return;
    end if;
    update subscriptions set delivered = delivered + handled where name = of_subscription;
    delete from catch_ups
    where id = catch_up and reached >= (select position from subscriptions where name = of_subscription);
    update catch_ups set position = reached where id = catch_up;
end $$;

-- --- what operators do ---

-- Hands the events of one stream out again that come after a position; what waits behind them goes on waiting.
create function redeliver_stream(of_subscription text, of_stream text, after bigint) returns void
language plpgsql as $$
#variable_conflict use_column
begin
    insert into catch_ups (subscription, stream, position)
    select name, of_stream, after from subscriptions where name = of_subscription for update
    on conflict (subscription, stream, types)
        do update set position = least(catch_ups.position, excluded.position), next_feed = 0;
    update tasks set state = 'queued'
    where subscription = of_subscription and stream = of_stream and state = 'ready' and position > after;
end $$;

-- Sets a cursor back; returns where it stands then.
create function rewind_subscription(of_subscription text, after bigint) returns bigint language plpgsql as $$
#variable_conflict use_column
declare
    reached bigint;
begin
    update subscriptions set position = least(position, after) where name = of_subscription
    returning position into reached;
    update catch_ups set position = reached where subscription = of_subscription and position > reached;
    return reached;
end $$;

-- Ends a subscription: its cursor, its tasks, and what holds the log back for it.
create function end_subscription(of_subscription text) returns void language sql volatile as $$
    select from subscriptions where name = of_subscription for update;
    delete from tasks where subscription = of_subscription;
    delete from catch_ups where subscription = of_subscription;
    delete from subscriptions where name = of_subscription
$$;

-- Makes empty copies of tables of the schema "home", and the subscription; a rebuild under way begins anew. Fails with CL002 where the tables
-- could not be swapped later, or not be filled since old events were retired.
drop function begin_rebuild(text, text[]);
create function begin_rebuild(of_subscription text, tables text[], home text) returns void language plpgsql as $$
declare
    shadow constant text := rebuild_schema(of_subscription);
    live regclass;
    name text;
begin
    execute format('drop schema if exists %I cascade', shadow);
    execute format('create schema %I', shadow);
    foreach name in array tables loop
        live := to_regclass(format('%I.%I', home, name));
        if live is null then
            raise exception 'there is no table %', name using errcode = 'CL002';
        end if;
        if exists (select from pg_constraint where confrelid = live and conrelid <> confrelid) then
            raise exception 'other tables refer to %', name using errcode = 'CL002';
        end if;
        if exists (select from pg_trigger where tgrelid = live and not tgisinternal) then
            raise exception '% has triggers, which a copy would lack', name using errcode = 'CL002';
        end if;
        execute format('create table %I.%I (like %s including all)', shadow, name, live);
    end loop;
    perform end_subscription(rebuild_name(of_subscription));
    insert into subscriptions (name, position, types, dead_letter_blocks)
    select rebuild_name(of_subscription), 0, types, dead_letter_blocks
    from subscriptions where subscriptions.name = of_subscription;
    if log_start() > 0 then
        raise exception 'events before position % are no longer in the log', log_start() using errcode = 'CL002';
    end if;
end $$;

-- Puts the rebuilt tables in the place of the live ones once they have come as far; returns whether they have. The
-- live subscription goes on from where the rebuilt one stands; what still waited for it is in the rebuilt tables.
drop function finish_rebuild(text, text[]);
create function finish_rebuild(of_subscription text, tables text[], home text) returns boolean language plpgsql as $$
declare
    shadow constant text := rebuild_schema(of_subscription);
    live record;
    rebuilt record;
    name text;
begin
    select * into live from subscriptions where subscriptions.name = of_subscription for update;
    select * into rebuilt from subscriptions where subscriptions.name = rebuild_name(of_subscription) for update;
    if rebuilt.position is null or rebuilt.position < live.position
        or exists (select from tasks where subscription = rebuild_name(of_subscription))
        or exists (select from catch_ups where subscription = rebuild_name(of_subscription)) then
        return false;
    end if;
    foreach name in array tables loop
        execute format('drop table %I.%I', home, name);
        execute format('alter table %I.%I set schema %I', shadow, name, home);
    end loop;
    execute format('drop schema %I', shadow);
    delete from catch_ups where subscription = of_subscription;
    delete from tasks where subscription = of_subscription and position <= rebuilt.position;
    update subscriptions set position = rebuilt.position, delivered = rebuilt.delivered
    where subscriptions.name = of_subscription;
    perform end_subscription(rebuild_name(of_subscription));
    return true;
end $$;

-- Says what a subscription wants from now on. Of the types that are added, events before the cursor are caught up
-- with, unless from_now; of those that are dropped, what waits is given up. Returns how many tasks that were. The caller
-- holds the cursor.
create function declare_subscription(
    of_subscription text, wanted text[], added text[], dropped text[], from_now boolean, blocks boolean, version text
) returns integer language plpgsql as $$
#variable_conflict use_column
declare
    start constant bigint := greatest(log_start() - 1, 0);
    streams text[];
    given_up integer;
begin
    update subscriptions set types = wanted, dead_letter_blocks = blocks, declared_by = version
    where name = of_subscription;
    if cardinality(added) > 0 and not from_now then
        insert into catch_ups (subscription, types, position)
        select name, added, start from subscriptions where name = of_subscription and position > start
        on conflict (subscription, stream, types) do update set position = excluded.position;
    end if;
    delete from tasks
    where subscription = of_subscription and type = any(dropped) and state in ('queued', 'ready');
    get diagnostics given_up = row_count;
    update subscriptions set delivered = delivered - given_up where name = of_subscription and given_up > 0;
    delete from catch_ups where subscription = of_subscription and types <@ dropped;
    update catch_ups set types = array(select type from unnest(types) as kept (type) where type <> all(dropped))
    where subscription = of_subscription and types && dropped;
    perform hold_and_settle_streams(
        of_subscription,
        array(select distinct stream from tasks where subscription = of_subscription and state = 'queued'));
    return given_up;
end $$;

-- Ends what a subscription wanted of one event type, with its dead letters; what waited behind those goes on.
create function give_type_up(of_subscription text, of_type text) returns void language plpgsql as $$
declare
    dropped integer;
begin
    perform from subscriptions where name = of_subscription for update;
    delete from tasks where subscription = of_subscription and type = of_type and state = 'dead_lettered';
    get diagnostics dropped = row_count;
    update subscriptions set delivered = delivered - dropped where name = of_subscription;
    perform declare_subscription(
        name, array_remove(types, of_type), '{}', array[of_type], false, dead_letter_blocks, declared_by)
    from subscriptions where name = of_subscription;
end $$;
