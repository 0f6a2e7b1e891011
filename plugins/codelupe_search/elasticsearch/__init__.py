"""The search index in Elasticsearch. The client is imported when it is first used: it is an extra."""

from codelupe_search.elasticsearch.index import ElasticsearchIndex

__all__ = ["ElasticsearchIndex"]
