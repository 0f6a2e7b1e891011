-- A transaction that takes catch-ups forward ends soon, however many there are.

-- Takes catch-ups a step forward, each over no more than fifty times at_most positions: those of whole types, only if
-- with_types, since a batch subscription reads such itself; and of those of streams the ones that are furthest behind,
-- until at_most tasks were made or fifty were taken. Returns how many tasks were made. The caller holds the cursor.
create or replace function feed_catch_ups(of_subscription text, with_types boolean, at_most integer) returns integer
language plpgsql as $$
#variable_conflict use_column
declare
    cursor record;
    it record;
    reached bigint;
    found record;
    queued record;
    made integer := 0;
    fed integer := 0;  -- of streams, like the next: of whole types there are few
    made_in_streams integer := 0;
begin
    select position, types into cursor from subscriptions where name = of_subscription;
    for it in
        select * from catch_ups
        where subscription = of_subscription and (with_types or stream is not null) and catch_up_is_due(catch_ups)
        order by stream is not null, position, id
    loop
        exit when fed = 50 or made_in_streams >= at_most;
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
            made_in_streams := made_in_streams + queued.made;
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
            fed := fed + 1;
            perform settle_streams(of_subscription, array[it.stream]);  -- it may go as far as it is fed now
        end if;
    end loop;
    return made;
end $$;

-- As in 0012: under any search_path, such as the empty one under which pg_dump restores.
do $$
begin
    execute format('alter function feed_catch_ups set search_path = %I, pg_temp', current_schema());
end $$;
