// Search results from files have no excerpts: a browser does not read one file for another.
if (location.protocol === "file:") DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;
