-- What ends its process leaves nothing in its transaction by which the next process could know.

-- Runs in a row that ended with their process, the one that is under way included.
alter table jobs add column crashes integer not null default 0;

-- The first call of a process for each cursor, that of a subscription or of a catch-up of it, unless it has ended.
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
