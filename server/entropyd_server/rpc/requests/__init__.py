"""Parsing of requests, one module for each service."""
