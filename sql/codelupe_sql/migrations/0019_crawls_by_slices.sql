-- Crawls that are asked for slice by slice and page by page, and what more is known of a repository.

alter table repositories
    add column default_branch text,
    add column created_at timestamptz,
    add column watchers integer,
    add column is_template boolean not null default false,
    add column is_mirror boolean not null default false,
    add column is_disabled boolean not null default false,
    add column terms text[] not null default '{}',
    -- What the source needs to ask for it again.
    add column handle text,
    -- When its source last described it.
    add column seen_at timestamptz not null default now();

create index repositories_by_sight on repositories (source, seen_at);

alter table repositories drop constraint repositories_state_check;
alter table repositories add constraint repositories_state_check check (state in (
    'discovered', 'accepted', 'rejected', 'cloned', 'empty', 'extracted', 'scored', 'forgotten', 'gone'));

drop function record_repositories(jsonb);

-- Adds rows of repositories (a JSON array of objects, all with the same keys: names of columns), or replaces what is said
-- in them. Those whose ids are in new_content start again; an old clone stays until it is replaced. The keys say which
-- columns are written, so a further one needs no change here.
create function write_repositories(described jsonb, new_content text[]) returns void language plpgsql as $$
declare
    columns constant text := (
        select string_agg(quote_ident(key), ', ' order by key) from jsonb_object_keys(described -> 0) as key
    );
    columns_but_id constant text := (
        select string_agg(quote_ident(key), ', ' order by key) from jsonb_object_keys(described -> 0) as key
        where key <> 'id'
    );
begin
    execute format($query$
        insert into repositories (%1$s)
        select %1$s from jsonb_populate_recordset(null::repositories, $1) order by id
        on conflict (id) do update set
            (%2$s) = (select %2$s from (select excluded.*) as fresh),
            discovered_at = case when excluded.id = any($2) then now() else repositories.discovered_at end,
            state = case when excluded.id = any($2) then 'discovered' else repositories.state end,
            score = case when excluded.id = any($2) then null else repositories.score end,
            reasons = case when excluded.id = any($2) then '[]' else repositories.reasons end
    $query$, columns, columns_but_id) using described, new_content;
end $$;

create table crawls (
    id bigint generated always as identity primary key,
    source text not null,
    mode text not null,
    terms text[] not null,
    -- Whether it is for all that its mode finds by the settings, and not only for the terms that a request named.
    is_full boolean not null default true,
    began_at timestamptz not null,
    completed_at timestamptz
);

-- A source is crawled once at a time in each mode.
create unique index crawls_under_way on crawls (source, mode) where completed_at is null;

create table crawl_slices (
    id bigint generated always as identity primary key,
    crawl bigint not null references crawls (id) on delete cascade,
    query text not null,
    budget text not null,
    state text not null default 'open' check (state in ('open', 'in work', 'complete', 'split', 'failed')),
    -- The one that asks for it, and where it goes on.
    account text,
    cursor text,
    -- How often it was asked from its beginning, how many repositories it holds, which were seen (their ids, as long
    -- as it is in work), and how many.
    round integer not null default 1,
    total integer,
    seen text[] not null default '{}',
    repositories integer not null default 0,
    new integer not null default 0,
    changed integer not null default 0,
    missed integer not null default 0,
    requests integer not null default 0,
    -- Failures in a row, the last one, and when it is tried again.
    failures integer not null default 0,
    error text,
    not_before timestamptz,
    unique (crawl, query)
);

create index crawl_slices_to_ask on crawl_slices (crawl, budget, id) where state in ('open', 'in work');

-- When an account may make its next request of a kind; kind '' is all of them.
create table crawl_budgets (
    source text not null,
    account text not null,
    kind text not null,
    next_at timestamptz not null,
    -- Why it waits, if it is not only for its turn.
    reason text,
    primary key (source, account, kind)
);

-- What a source left for later, such as whose account a token is.
create table crawl_notes (
    source text not null,
    key text not null,
    value text not null,
    primary key (source, key)
);

-- Whether an account may ask for a slice: one that none has begun, its own, or one of another account that is none of the
-- source's any more, or has to wait.
create function may_ask(
    slice crawl_slices, of_source text, for_account text, accounts text[], at timestamptz
) returns boolean language sql stable as $$
    select slice.state = 'open' or slice.state = 'in work' and (
        slice.account = for_account or slice.account <> all(accounts) or exists (
            select from crawl_budgets as theirs
            where (theirs.source, theirs.account) = (of_source, slice.account) and theirs.kind in ('', slice.budget)
              and theirs.next_at > at + interval '1 minute'))
$$;

-- Takes an account's next turn for a request of a kind, unless it is more than patience away: how long to wait for it,
-- and why. Its own clock is asked for the time if none is given.
create function take_turn(
    of_source text, of_account text, of_kind text, spacing interval, patience interval, at timestamptz
) returns table (wait interval, reason text) language plpgsql as $$
declare
    this_moment constant timestamptz := coalesce(at, clock_timestamp());
    turn timestamptz;
begin
    select greatest(this_moment, max(budget.next_at)) into turn from crawl_budgets as budget
    where (budget.source, budget.account) = (of_source, of_account) and budget.kind in ('', of_kind);
    if turn - this_moment <= patience then
        insert into crawl_budgets (source, account, kind, next_at)
        values (of_source, of_account, of_kind, turn + spacing)
        on conflict (source, account, kind) do update set next_at = excluded.next_at, reason = null;
    end if;
    return query select turn - this_moment, (
        select budget.reason from crawl_budgets as budget
        where (budget.source, budget.account) = (of_source, of_account) and budget.kind in ('', of_kind)
          and budget.reason is not null
        order by budget.next_at desc limit 1);
end $$;
