-- A task that changes while it is looked at, such as one that is given back by the reaper, stays listed until it has
-- been set back: the statement that locked its newest version could see only the one before, and changed nothing.
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
    went_back := step_back('tasks');
    if went_back is not null then
        insert into tasks_to_set_back (subscription, stream, position, run_at, back)
        select tasks.subscription, tasks.stream, tasks.position, tasks.run_at, went_back
        from tasks where state <> 'dead_lettered' and tasks.run_at > now
        on conflict (subscription, stream, position) do update
            set run_at = excluded.run_at, back = tasks_to_set_back.back + excluded.back;
    end if;
    if not exists (select from tasks_to_set_back) then
        return false;
    end if;
    delete from tasks_to_set_back as late where not exists (
        select from tasks
        where tasks.subscription = late.subscription and tasks.stream = late.stream and tasks.position = late.position
    );
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
