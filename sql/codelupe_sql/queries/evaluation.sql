-- Evaluation sets: which repositories are held out, the windows that models are compared on, and what has lines of them.

-- name: is_anything_due
-- Whether a set or a batch may be: there is no set yet, a model waits to be judged, or as many files as a batch needs
-- ($4) are fresh and not known to be held out. $1 lowest score, $2 fewest and $3 most characters.
select newest_evaluation_set() is null
    or exists (select from models where state = 'trained')
    or $4 <= (
        select count(*) from (
            select from fresh_files($1, $2, $3) as fresh
            where not exists (
                select from repository_groups where repository_groups.repository_id = fresh.repository_id and is_held_out
            )
            limit $4
        ) as waiting
    )

-- name: settle_groups
-- $1 share of groups held out.
select settle_groups($1)

-- name: count_held_out
-- The groups that a set could be drawn from now, and those of the newest set that can still be measured on.
-- $1 lowest score, $2 fewest and $3 most characters.
select newest_evaluation_set() as version,
       (select count(distinct group_id) from measurable_windows(newest_evaluation_set())) as measurable,
       (select count(distinct group_id) from fresh_files($1, $2, $3) as fresh
        join repository_groups using (repository_id) where is_held_out) as groups,
       (select coalesce(max(id), 0) from batches) as batches

-- name: held_out_files
-- Fresh files of groups that are held out, in turn from each group, at most $4; those of the newest set come first, each
-- with its window there, or nulls. $1 lowest score, $2 fewest and $3 most characters, $5 since which day repositories are young.
with files as (
    select fresh.id, fresh.repository_id, held_out.group_id, fresh.language, fresh.content, fresh.content_hash,
           (repositories.created_at at time zone 'UTC')::date >= $5 as is_young, first_byte, end_byte, part,
           row_number() over (partition by held_out.group_id order by first_byte is null, fresh.content_hash) as turn
    from fresh_files($1, $2, $3) as fresh
    join repository_groups as held_out on held_out.repository_id = fresh.repository_id and held_out.is_held_out
    join repositories on repositories.id = fresh.repository_id
    left join measurable_windows(newest_evaluation_set()) as known on known.file_id = fresh.id
)
select * from files order by turn, content_hash limit $4

-- name: learned_files
-- The files of all batches whose content is there, from the id $1 on, at most $2.
select id, content from processed_files
where id > $1 and content is not null and exists (select from batch_files where file_id = id)
order by id limit $2

-- name: add_set
-- A new set with its number of groups ($1) and windows ($2), its hash ($3) and how it was drawn ($4); returns its version.
insert into evaluation_sets (version, groups, windows, hash, settings)
select coalesce(newest_evaluation_set(), 0) + 1, $1, $2, $3, $4
returning version

-- name: add_windows
-- The windows of a set ($1), each column an array, in the order of their numbers.
insert into evaluation_windows (
    version, number, file_id, content_hash, repository_id, group_id, language, first_byte, end_byte, text_hash, part,
    is_young
)
select $1, number - 1, file_id, content_hash, repository_id, group_id, language, first_byte, end_byte, text_hash, part,
       is_young
from unnest(
    $2::bigint[], $3::bytea[], $4::text[], $5::text[], $6::text[], $7::integer[], $8::integer[], $9::bytea[], $10::text[],
    $11::boolean[]
) with ordinality as windows (
    file_id, content_hash, repository_id, group_id, language, first_byte, end_byte, text_hash, part, is_young, number
)

-- name: newest_version
select newest_evaluation_set()

-- name: window_texts
-- Of the set $1.
select number, convert_from(
    substring(convert_to(content, 'UTF8') from first_byte + 1 for end_byte - first_byte), 'UTF8') as text
from measurable_windows($1) join processed_files on processed_files.id = file_id order by number

-- name: unchecked_files
-- Fresh files of repositories that are not held out, which were not compared with the set $4: at most $5.
-- $1 lowest score, $2 fewest and $3 most characters.
select fresh.id, content from fresh_files($1, $2, $3) as fresh
join repository_groups using (repository_id)
where not is_held_out and not exists (
    select from evaluation_checks where file_id = fresh.id and version = $4
)
order by fresh.id limit $5

-- name: record_checks
-- With which window of a set ($1) each of some files ($2) shares lines ($3, null for none), if it is still there.
insert into evaluation_checks (file_id, version, window_number)
select file_id, $1, window_number from unnest($2::bigint[], $3::integer[]) as checked (file_id, window_number)
where exists (select from processed_files where id = file_id)
on conflict (file_id) do update set version = excluded.version, window_number = excluded.window_number

-- name: newest_set
-- With how many groups and windows of it decide and can be measured on; no row if there is no set.
select version, hash, (
    select count(distinct group_id) from measurable_windows(evaluation_sets.version) where part = 'decides'
) as groups, (
    select count(*) from measurable_windows(evaluation_sets.version) where part = 'decides'
) as windows
from evaluation_sets where version = newest_evaluation_set()

-- name: held_out_as_json
-- What the model of a batch ($2) is measured on, each as a file that holds nothing else: the windows of a set ($1), and
-- at most $3 files of earlier batches, up to $4 characters of each.
select json_build_object(
    'repository_id', repositories.id, 'repository', full_name, 'commit', processed_files.commit,
    'licence', processed_files.licence, 'path', file_path, 'language', held_out.language,
    'content_hash', encode(text_hash, 'hex'), 'split', part, 'content', held_out.content
)::text
from held_out_texts($1, $2, $3, $4) as held_out
join processed_files on processed_files.id = file_id
join repositories on repositories.id = processed_files.repository_id
order by text_hash

-- name: held_out
-- The same without the texts.
select encode(text_hash, 'hex') as hash, group_id, language, part, is_young from held_out_texts($1, $2, $3, $4)
order by text_hash
