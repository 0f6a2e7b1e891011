-- Repositories that somebody wanted out, files as the data set sees them, and what files scored before.

-- The address of a repository without what differs between ways to write it: scheme, user, case, ".git", last slash.
create function repository_address(url text) returns text language sql immutable strict as $$
    select translate(lower(regexp_replace(regexp_replace(url, '^([a-z+]+://)?([^/@]*@)?', '', 'i'), '(\.git)?/*$', '', 'i')),
                     ':', '/')
$$;

-- What was removed for good and does not come back: known by its id, its name (whatever the case) and its address.
create table forgotten (
    repository_id text primary key,
    full_name text not null,
    url text not null,
    forgotten_by text not null,
    reason text not null,
    forgotten_at timestamptz not null default now()
);

create index forgotten_by_name on forgotten (lower(full_name));
create index forgotten_by_address on forgotten (repository_address(url));

-- Whether a repository that a source names is one that was forgotten.
create function is_forgotten(id text, name text, url text) returns boolean language sql stable as $$
    select exists (select from forgotten where repository_id = is_forgotten.id)
        or exists (select from forgotten where lower(full_name) = lower(is_forgotten.name))
        or exists (select from forgotten where repository_address(forgotten.url) = repository_address(is_forgotten.url))
$$;

-- A forgotten repository keeps its row only so that models trained on it can be traced, and keeps it as it is.
alter table repositories drop constraint repositories_state_check;
alter table repositories add constraint repositories_state_check check (state in (
    'discovered', 'accepted', 'rejected', 'cloned', 'empty', 'extracted', 'scored', 'forgotten'));

-- Whatever a stage that was under way still writes about a forgotten repository is passed over.
create function leave_unchanged() returns trigger language plpgsql as $$
begin
    return null;
end $$;

create trigger stays_forgotten before update on repositories for each row
    when (old.state = 'forgotten') execute function leave_unchanged();

-- Copies that were refused, by what they are copies of.
create index processed_files_copies on processed_files (content_hash) where rejected_by = 'exact-duplicate';

-- The scores and their mean before the file was scored anew by other scorers; null if it was scored once.
alter table processed_files add column previous_scores jsonb, add column previous_quality real;

-- The files that fit all that is given, stored and refused ones; null asks for nothing. A repository is given by its
-- id or its name; names of repositories, languages and licences count whatever their case.
create function matching_files(
    of_repository text, of_language text, of_licence text, of_rule text, at_least real, at_most real
) returns setof processed_files language sql stable as $$
    select processed_files.* from processed_files
    where (of_repository is null or repository_id in (
              select id from repositories where id = of_repository or lower(full_name) = lower(of_repository)))
      and (of_language is null or lower(language) = lower(of_language))
      and (of_licence is null or lower(coalesce(licence, 'unknown')) = lower(of_licence))
      and (of_rule is null or rejected_by = of_rule)
      and (at_least is null or quality_score >= at_least)
      and (at_most is null or quality_score <= at_most)
$$;
