-- What tasks wait for is set back with the clock also where they change while it is looked at.

-- Transactions that were under way when the clock was found to be set back: what they make tasks wait for is still of
-- the clock as it was before.
create table transactions_of_old_clock (
    xid xid8 primary key,
    back interval not null
);

-- Sets back with the clock what tasks wait for: those that are locked or change meanwhile at a later call, unless they
-- wait for something else by then; and what a transaction that was under way leaves, once it has ended. Returns whether
-- there were any. One process at a time. As for claims, by index whatever the plan.
create or replace function set_tasks_back() returns boolean language plpgsql
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
declare
    now constant timestamptz := log_time();
    went_back interval;
    gone integer;
begin
    perform from log_clock where follower = 'tasks' for update skip locked;
    if not found and exists (select from log_clock where follower = 'tasks') then
        return false;
    end if;
    with ended as (
        delete from transactions_of_old_clock where xid not in (select pg_snapshot_xip(pg_current_snapshot()))
        returning xid, back
    )
    insert into tasks_to_set_back (subscription, stream, position, run_at, back)
    select waiting.subscription, waiting.stream, waiting.position, waiting.run_at, ended.back
    from ended cross join lateral (
        select * from tasks
        where xmin = ended.xid::xid and state <> 'dead_lettered' and tasks.run_at > now offset 0  -- not joined
    ) as waiting
    on conflict (subscription, stream, position) do update set run_at = excluded.run_at, back = excluded.back;
    went_back := step_back('tasks');
    if went_back is not null then
        -- One statement, and so one moment: what it does not see is of a transaction that it finds under way.
        with listed as (
            insert into tasks_to_set_back (subscription, stream, position, run_at, back)
            select tasks.subscription, tasks.stream, tasks.position, tasks.run_at, went_back
            from tasks where state <> 'dead_lettered' and tasks.run_at > now
            on conflict (subscription, stream, position) do update
                set run_at = excluded.run_at, back = tasks_to_set_back.back + excluded.back
        )
        insert into transactions_of_old_clock (xid, back)
        select xid, went_back from pg_snapshot_xip(pg_current_snapshot()) as xid
        on conflict (xid) do update set back = transactions_of_old_clock.back + excluded.back;
    end if;
    if not exists (select from tasks_to_set_back) then
        return false;
    end if;
    delete from tasks_to_set_back as late where not exists (
        select from tasks
        where tasks.subscription = late.subscription and tasks.stream = late.stream and tasks.position = late.position
    );
    -- Of a task that was changed since this statement began it locks the newest version and sees only the one before:
    -- the update misses it, and it stays listed.
    with free as materialized (
        select tasks.ctid, late.ctid as place, late.back, tasks.run_at = late.run_at as waits
        from tasks_to_set_back as late join tasks
            on tasks.subscription = late.subscription and tasks.stream = late.stream and tasks.position = late.position
        for update of tasks skip locked
    ), moved as (
        update tasks set run_at = tasks.run_at - free.back from free where tasks.ctid = free.ctid and free.waits
        returning free.place
    )
    delete from tasks_to_set_back where ctid = any(array(
        select place from moved union all select place from free where not waits));
    get diagnostics gone = row_count;
    return gone > 0;
end $$;

-- As in 0012: under any search_path.
do $$
begin
    execute format('alter function set_tasks_back() set search_path = %I, pg_temp', current_schema());
end $$;
