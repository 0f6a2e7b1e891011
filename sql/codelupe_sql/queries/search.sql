-- The search index over discovered repositories in Postgres full text.

-- name: index_repositories
-- Add or replace the repositories in a JSON array ($1). Names are indexed as they are, by their parts at slashes, and
-- by their parts at any separator, so that "scikit-learn", "owner/scikit-learn" and "scikit" all find it. A tsvector
-- holds 1 MB at most, hence the cut.
insert into repository_search (repository_id, full_name, description, language, stars, document)
select repository_id, full_name, description, language, stars,
       setweight(to_tsvector('simple', concat_ws(
           ' ', full_name, replace(full_name, '/', ' '), regexp_replace(full_name, '[/_.-]+', ' ', 'g'))), 'A')
       || setweight(to_tsvector('simple', left(topics, 10000)), 'B')
       || setweight(to_tsvector('simple', coalesce(left(description, 10000), '')), 'C')
       || setweight(to_tsvector('simple', coalesce(language, '')), 'D')
from jsonb_to_recordset($1) as repository (
    repository_id text, full_name text, description text, language text, stars integer, topics text
)
order by repository_id
on conflict (repository_id) do update set
    full_name = excluded.full_name, description = excluded.description, language = excluded.language,
    stars = excluded.stars, document = excluded.document

-- name: remove_repositories
delete from repository_search where repository_id = any($1)

-- name: search_repositories
-- The best matches for a query ($1) in the words of a web search, the best first, at most $2.
select repository_id, full_name, description, language, stars, ts_rank(document, query) as rank
from repository_search, websearch_to_tsquery('simple', $1) as query
where document @@ query
order by rank desc, stars desc, full_name
limit $2
