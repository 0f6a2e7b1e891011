-- Rebuilding the tables of a subscription beside the live ones. The rebuild is a subscription of its own, from the
-- beginning of the log, whose handler writes to tables of the same names in a schema of its own.

create function rebuild_name(subscription text) returns text language sql immutable as $$
    select subscription || '~rebuild'
$$;

create function rebuild_schema(subscription text) returns text language sql immutable as $$
    select 'rebuild_' || translate(subscription, '.-', '__')
$$;

-- Makes the empty tables and the subscription; a rebuild under way begins anew. Fails with CL002 where the tables
-- could not be swapped later, or not be filled since old events were retired.
create function begin_rebuild(of_subscription text, tables text[]) returns void language plpgsql as $$
declare
    shadow constant text := rebuild_schema(of_subscription);
    name text;
begin
    execute format('drop schema if exists %I cascade', shadow);
    execute format('create schema %I', shadow);
    foreach name in array tables loop
        if to_regclass(name) is null then
            raise exception 'there is no table %', name using errcode = 'CL002';
        end if;
        if exists (select from pg_constraint where confrelid = to_regclass(name) and conrelid <> confrelid) then
            raise exception 'other tables refer to %', name using errcode = 'CL002';
        end if;
        if exists (select from pg_trigger where tgrelid = to_regclass(name) and not tgisinternal) then
            raise exception '% has triggers, which a copy would lack', name using errcode = 'CL002';
        end if;
        execute format('create table %I.%I (like %I including all)', shadow, name, name);
    end loop;
    delete from tasks where subscription = rebuild_name(of_subscription);
    insert into subscriptions (name, position) values (rebuild_name(of_subscription), 0)
    on conflict on constraint subscriptions_pkey do update set position = 0, delivered = 0;
    if log_start() > 0 then
        raise exception 'events before position % are no longer in the log', log_start() using errcode = 'CL002';
    end if;
end $$;

-- Puts the rebuilt tables in the place of the live ones once they have come as far; returns whether they have. The
-- live subscription goes on from where the rebuilt one stands; what still waited for it is in the rebuilt tables.
create function finish_rebuild(of_subscription text, tables text[]) returns boolean language plpgsql as $$
declare
    shadow constant text := rebuild_schema(of_subscription);
    live record;
    rebuilt record;
    name text;
begin
    select * into live from subscriptions where subscriptions.name = of_subscription for update;
    select * into rebuilt from subscriptions where subscriptions.name = rebuild_name(of_subscription) for update;
    if rebuilt.position is null or rebuilt.position < live.position
        or exists (select from tasks where subscription = rebuild_name(of_subscription)) then
        return false;
    end if;
    foreach name in array tables loop
        execute format('drop table %I', name);
        execute format('alter table %I.%I set schema %I', shadow, name, current_schema());
    end loop;
    execute format('drop schema %I', shadow);
    delete from tasks where subscription = of_subscription and position <= rebuilt.position;
    update subscriptions set position = rebuilt.position, delivered = rebuilt.delivered
    where subscriptions.name = of_subscription;
    delete from subscriptions where subscriptions.name = rebuild_name(of_subscription);
    return true;
end $$;
