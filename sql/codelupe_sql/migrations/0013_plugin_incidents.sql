-- What plugins did that hurt others: the last time, and how often.

create table plugin_incidents (
    plugin text,
    -- What it did: blocked_loop.
    kind text,
    -- Full name of the subscription, job or service whose work it was, if known.
    stage text,
    stream text,
    -- How long it lasted.
    seconds double precision not null,
    -- Where in the code.
    stack text not null,
    at timestamptz not null default log_time(),
    -- How often, this time included.
    count bigint not null default 1,
    primary key (plugin, kind)
);
