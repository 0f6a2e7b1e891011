-- Rebuilding a projection beside the live one.

-- name: begin_rebuild
select begin_rebuild($1, $2, coalesce($3, current_schema()))

-- name: finish_rebuild
select finish_rebuild($1, $2, coalesce($3, current_schema()))

-- name: write_beside
-- For this transaction, unqualified names mean the tables that are being rebuilt, where there are any.
select set_config('search_path', quote_ident(rebuild_schema($1)) || ', ' || current_setting('search_path'), true)
