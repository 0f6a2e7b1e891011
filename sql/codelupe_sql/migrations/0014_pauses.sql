-- Parts of plugins that are paused: by the daemon, since they failed again and again, or by hand.

create table pauses (
    plugin text,
    -- What it is: subscription, job, file rule, scorer and so on.
    kind text,
    -- Without the plugin's.
    name text,
    since timestamptz not null default log_time(),
    why text not null,
    primary key (plugin, kind, name)
);

-- What has failed since it last succeeded.
create table failures_in_a_row (
    plugin text,
    kind text,
    name text,
    -- The different streams over whose events it failed at the first attempt, and those of them that have a dead letter
    -- by now. That later attempts fail says nothing new: they come when all else has long succeeded.
    streams text[] not null,
    dead_lettered text[] not null default '{}',
    primary key (plugin, kind, name)
);
