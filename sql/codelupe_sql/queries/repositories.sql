-- Looking at repositories: which there are, what is known of one, and what became of it.

-- name: list_repositories
-- Those in a state ($1), in a language ($2), under a licence ($3), with so many stars ($4) and a text ($5) in name,
-- description or topics; null asks for nothing. In an order ($6, see rank_of), after the one with the id $7, at most $8.
select id, full_name as repository, url, language, licence, stars, forks, size_kib, topics, description, pushed_at,
       state, round(score::numeric, 1)::float as score,
       array(select reason ->> 'rule' from jsonb_array_elements(reasons) as reason) as rejected_by
from repositories
where ($1::text is null or state = $1)
  and ($2::text is null or lower(coalesce(language, 'unknown')) = lower($2))
  and ($3::text is null or lower(coalesce(licence, 'unknown')) = lower($3))
  and ($4::integer is null or stars >= $4)
  and ($5::text is null
       or strpos(lower(concat_ws(' ', full_name, description, array_to_string(topics, ' '))), lower($5)) > 0)
  and ($7::text is null or (rank_of(repositories, $6), lower(full_name), id) > (
      select rank_of(last, $6), lower(last.full_name), last.id from repositories as last where last.id = $7))
order by rank_of(repositories, $6), lower(full_name), id
limit $8

-- name: repositories_named
-- By their id or their name ($1).
select id, full_name, state from repositories
where id = $1 or lower(full_name) = lower($1) order by id

-- name: repositories_like
-- By their address or the last part of their name ($1).
select id, full_name, state from repositories
where repository_address(url) = repository_address($1)
   or right(lower(full_name), length($1) + 1) = '/' || lower($1)
order by id

-- name: similar_names
-- Names that could be meant by $1: under the same owner, or with a last part that is the same or begins the same way.
with wanted as (
    select lower($1) as name, split_part(lower($1), '/', 1) as owner, split_part(lower($1), '/', -1) as last
)
select full_name from repositories, wanted
where state not in ('gone', 'forgotten') and (
    split_part(lower(full_name), '/', 1) = owner or left(split_part(lower(full_name), '/', -1), 2) = left(last, 2))
order by split_part(lower(full_name), '/', -1) <> last, abs(length(full_name) - length(name)), full_name
limit 2000

-- name: repository
select * from repositories where id = $1

-- name: files_of_repository
-- How many of its files each rule refused; null stands for those that are stored.
select rejected_by, count(*) as files, count(quality_score) as scored,
       count(*) filter (where quality_score >= 70) as good, avg(quality_score)::float as mean_score
from processed_files where repository_id = $1 group by rejected_by order by files desc, rejected_by

-- name: why_forgotten
select forgotten_by as by, reason, forgotten_at as at from forgotten where repository_id = $1
