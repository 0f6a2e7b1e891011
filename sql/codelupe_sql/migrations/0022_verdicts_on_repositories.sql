-- What the repository rules said last, apart from how far a repository has come, which other stages write.

alter table repositories
    add column verdict text check (verdict in ('accepted', 'rejected')),
    -- The revision that it is about, and the position of the event that was judged.
    add column judged_revision text,
    add column judged_position bigint not null default 0,
    -- How far it had come when it was rejected, to be there again if it is accepted after all.
    add column reached text;

update repositories set
    verdict = case state when 'rejected' then 'rejected' else 'accepted' end, judged_revision = revision
where state in ('accepted', 'rejected', 'cloned', 'empty', 'extracted', 'scored');

-- Whether a repository has no part in what goes on: only another verdict, or what its source says anew, changes that.
create function is_out(state text) returns boolean language sql immutable as $$
    select state in ('rejected', 'gone', 'forgotten')
$$;

-- Where a repository is once a stage is through with it: what was out by then stays out.
create function state_after(state text, step text) returns text language sql immutable as $$
    select case when is_out(state) then state else step end
$$;

-- Its place among others in an order: the largest, the best or the newest comes first, what is unknown last.
create function rank_of(repository repositories, sort text) returns float8 language sql stable as $$
    select coalesce(-case sort
        when 'stars' then repository.stars
        when 'forks' then repository.forks
        when 'size' then repository.size_kib
        when 'score' then repository.score
        when 'pushed' then extract(epoch from repository.pushed_at)
        when 'discovered' then extract(epoch from repository.discovered_at)
        when 'name' then 0
    end::float8, 'infinity')
$$;
