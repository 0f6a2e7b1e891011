-- Groups of repositories, of which some are held out, and the frozen sets of windows that models are compared on.

-- Repositories of one group have an owner, a fork's name, a copy or near duplicates in common, directly or over others:
-- a projection that settle_groups writes.
create table repository_groups (
    repository_id text primary key,
    -- The least id of its members.
    group_id text not null,
    is_held_out boolean not null
);

create index repository_groups_held_out on repository_groups (group_id) where is_held_out;

-- What models are compared on, in versions: facts, never changed.
create table evaluation_sets (
    version integer primary key,
    -- Both parts together.
    groups integer not null,
    windows integer not null,
    -- SHA-256 over the windows, in hexadecimal digits.
    hash text not null,
    -- How it was drawn.
    settings jsonb not null,
    created_at timestamptz not null default now()
);

-- The windows of each set: pieces of stored files. They keep hashes and places, no text, so they hold nothing of what was
-- forgotten. No reference to processed_files, whose rows may go.
create table evaluation_windows (
    version integer not null references evaluation_sets (version),
    -- Its place in the set, from 0.
    number integer not null,
    file_id bigint not null,
    content_hash bytea not null,
    repository_id text not null,
    -- As it was then.
    group_id text not null,
    language text,
    -- Of the content in UTF-8: from the byte, up to and without the other.
    first_byte integer not null,
    end_byte integer not null check (end_byte > first_byte),
    -- xxh3-128 of the window's text.
    text_hash bytea not null,
    part text not null check (part in ('decides', 'reports')),
    -- Whether the repository was made after the base model's data; null if its source does not say when.
    is_young boolean,
    primary key (version, number)
);

create index evaluation_windows_by_file on evaluation_windows (file_id);

create function refuse_change() returns trigger language plpgsql as $$
begin
    raise exception '% is a record of what models were compared on and is never changed', tg_table_name;
end $$;

create trigger stays_as_it_is before update or delete on evaluation_sets for each row execute function refuse_change();
create trigger stays_as_it_is before update or delete on evaluation_windows for each row execute function refuse_change();

-- Which files were compared with the windows of a set, so that none goes into a batch that has lines of one.
create table evaluation_checks (
    file_id bigint primary key references processed_files (id) on delete cascade,
    version integer not null references evaluation_sets (version),
    -- The number of a window that it shares ten words in a row with; null if there is none.
    window_number integer
);

-- The set that models are compared on now; null if there is none yet.
create function newest_evaluation_set() returns integer language sql stable as $$
    select max(version) from evaluation_sets
$$;

-- Whether a stored file stays as it is, whatever becomes of its repository: it is in a batch or in an evaluation set.
create function is_kept(of_file bigint) returns boolean language sql stable as $$
    select exists (select from batch_files where file_id = of_file)
        or exists (select from evaluation_windows where file_id = of_file)
$$;

-- The files that may be learned from or measured on: with a score and a length within limits, of a repository that is
-- not out by now, no near duplicate of a better one, and neither they nor a near duplicate in a batch.
create function fresh_files(min_score real, min_characters integer, max_characters integer)
returns setof processed_files language sql stable as $$
    select * from processed_files
    where content is not null and quality_score >= min_score and characters between min_characters and max_characters
      and is_survivor
      and not exists (select from repositories where repositories.id = repository_id and is_out(state))
      and not exists (select from batch_files where batch_files.file_id = processed_files.id)
      and not exists (
          select from processed_files as twin join batch_files on batch_files.file_id = twin.id
          where twin.cluster_id = processed_files.cluster_id
      )
$$;

-- The windows of a set that can still be measured: their text is there, their repository is not out, and nothing of their
-- group was learned from since.
create function measurable_windows(of_version integer) returns setof evaluation_windows language sql stable as $$
    select evaluation_windows.* from evaluation_windows
    join processed_files on processed_files.id = file_id and processed_files.content_hash = evaluation_windows.content_hash
    join repository_groups on repository_groups.repository_id = processed_files.repository_id
    join repositories on repositories.id = processed_files.repository_id
    where version = of_version and content is not null and is_held_out and not is_out(state)
$$;

-- What the model of a batch is measured on: the windows of a set, and the validation parts of the batches before it, the
-- first batches' first, at most so many files with at most so many characters of each.
create function held_out_texts(of_version integer, before_batch bigint, most_files integer, most_characters integer)
returns table (file_id bigint, text_hash bytea, group_id text, language text, part text, is_young boolean, content text)
language sql stable as $$
    select windows.file_id, text_hash, windows.group_id, windows.language, part, windows.is_young,
           convert_from(substring(convert_to(content, 'UTF8') from first_byte + 1 for end_byte - first_byte), 'UTF8')
    from measurable_windows(of_version) as windows join processed_files on processed_files.id = file_id
    union all (
        select processed_files.id, content_hash, coalesce(repository_groups.group_id, repository_id), processed_files.language, split, null,
               left(content, most_characters)
        from batch_files
        join processed_files on processed_files.id = batch_files.file_id
        join repositories on repositories.id = repository_id
        left join repository_groups using (repository_id)
        where batch_id < before_batch and split = 'validation' and content is not null and not is_out(repositories.state)
        order by batch_id, content_hash limit most_files
    )
$$;

-- Who owns a repository, with the host, so that equal names on two hosts are two owners; null where the address does not
-- tell, as for folders and packages.
create function owner_of(full_name text, url text) returns text language sql immutable as $$
    select left(address, length(address) - length(full_name)) || split_part(lower(full_name), '/', 1)
    from repository_address(url) as address
    where url ~* '^((https?|ssh|git)://|[^/]+@[^/]+:)' and position('/' in full_name) > 0
      and right(address, length(full_name) + 1) = '/' || lower(full_name)
$$;

-- What makes repositories kin: those with the same key belong together. Of a fork only its name is known, so it is taken
-- for kin of all in its source that are called so. A file that more than ten repositories have, exactly or nearly, says
-- nothing of any.
create function kinship_keys() returns table (member text, kin text) language sql stable as $$
    select id, 'owner ' || owner_of(full_name, url) from repositories where owner_of(full_name, url) is not null
    union all
    select id, 'fork ' || source || ' ' || name from (
        select id, source, name, bool_or(is_fork) over (partition by source, name) as has_forks
        from repositories, lower(substring(full_name from '[^/]*$')) as name
    ) as named where has_forks
    union all
    select repository_id, 'copy ' || encode(content_hash, 'hex') from (
        select content_hash, repository_id, count(*) over (partition by content_hash) as repositories from (
            select content_hash, repository_id from processed_files where rejected_by = 'exact-duplicate'
            union
            select content_hash, repository_id from processed_files
            where (content is not null or rejected_by = 'forgotten') and content_hash in (
                select content_hash from processed_files where rejected_by = 'exact-duplicate'
            )
        ) as copies
    ) as counted where repositories between 2 and 10
    union all
    select repository_id, 'cluster ' || cluster_id from (
        select cluster_id, repository_id, count(*) over (partition by cluster_id) as repositories from (
            select distinct cluster_id, repository_id from processed_files where cluster_id is not null
        ) as members
    ) as counted where repositories between 2 and 10
$$;

-- Puts the repositories in groups anew, and says which groups are held out. One is never of which a file is in a batch;
-- else one is always of which a file is in the newest evaluation set, so new members are held out with it; else a share
-- is, by a hash of the group. A group of more than fifty repositories is not: it would keep much from training and say
-- little.
create function settle_groups(share double precision) returns void language plpgsql as $$
declare
    ids text[];
    nodes bigint[];
    ones bigint[];
    others bigint[];
begin
    perform pg_advisory_xact_lock(hashtextextended('codelupe.groups', 0));
    select array_agg(id order by id collate "C"), array_agg(number order by number) into ids, nodes
    from (select id, row_number() over (order by id collate "C") as number from repositories) as numbered;
    select coalesce(array_agg(number), '{}'), coalesce(array_agg(first), '{}') into ones, others from (
        select number, first_value(number) over (partition by kin order by number) as first
        from kinship_keys() join unnest(ids, nodes) as numbered (id, number) on id = member
    ) as links where number <> first;
    insert into repository_groups (repository_id, group_id, is_held_out)
    select repository_id, group_id, is_held_out from (
        select ids[node] as repository_id, ids[component] as group_id, not bool_or(is_trained) over own and (
                bool_or(is_frozen) over own or (count(*) over own <= 50 and is_held_out(ids[component], share))
            ) as is_held_out
        from connected_components(coalesce(nodes, '{}'), ones, others)
        cross join lateral (
            select ids[node] in (
                select processed_files.repository_id from batch_files join processed_files on processed_files.id = file_id
            ) as is_trained, ids[node] in (
                select evaluation_windows.repository_id from evaluation_windows where version = newest_evaluation_set()
            ) as is_frozen
        ) as known
        window own as (partition by component)
    ) as settled
    order by repository_id
    on conflict (repository_id) do update set group_id = excluded.group_id, is_held_out = excluded.is_held_out
    where (repository_groups.group_id, repository_groups.is_held_out)
          is distinct from (excluded.group_id, excluded.is_held_out);
end $$;

alter table models
    -- The set that it was judged on.
    add column evaluation_set integer references evaluation_sets (version),
    -- How it compares with the model in use then, measure by measure.
    add column evaluation jsonb not null default '[]';
