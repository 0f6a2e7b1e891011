-- A batch handler that ends its process leaves nothing in its transaction by which the next process could know.

-- The last call for each cursor, that of a subscription or of a catch-up of it, unless the call has ended.
create table batch_calls (
    subscription text,
    -- 0 for the subscription's own cursor.
    catch_up bigint,
    -- Up to where its events go.
    reached bigint not null,
    -- The position of its event, if it was called for that one alone since an earlier call had not ended.
    alone bigint,
    primary key (subscription, catch_up)
);

-- Notes that a call begins, ahead of the transaction in which it runs.
create function begin_batch_call(of_subscription text, of_catch_up bigint, up_to bigint, event_alone bigint) returns void
language plpgsql as $$
begin
    perform set_config('synchronous_commit', 'off', true);
    insert into batch_calls (subscription, catch_up, reached, alone)
    values (of_subscription, of_catch_up, up_to, event_alone)
    on conflict (subscription, catch_up)
        do update set reached = greatest(batch_calls.reached, excluded.reached), alone = excluded.alone;
end $$;

-- Moves a cursor, or a catch-up, which goes once it has come to its end. Calls up to there have ended with that.
create or replace function move_cursor(of_subscription text, catch_up bigint, reached bigint, handled bigint) returns void
language plpgsql as $$
begin
    delete from batch_calls
    where batch_calls.subscription = of_subscription and batch_calls.catch_up = coalesce(move_cursor.catch_up, 0)
      and batch_calls.reached <= move_cursor.reached;
    if catch_up is null then
        update subscriptions set position = reached, delivered = delivered + handled where name = of_subscription;
        return;
    end if;
    update subscriptions set delivered = delivered + handled where name = of_subscription;
    delete from catch_ups
    where id = move_cursor.catch_up
      and move_cursor.reached >= (select position from subscriptions where name = of_subscription);
    update catch_ups set position = move_cursor.reached where id = move_cursor.catch_up;
end $$;

do $$ declare it regprocedure; begin
    foreach it in array array[
        'begin_batch_call(text, bigint, bigint, bigint)', 'move_cursor(text, bigint, bigint, bigint)']::regprocedure[]
    loop
        execute format('alter function %s set search_path = %I, pg_temp', it, current_schema());
    end loop;
end $$;
