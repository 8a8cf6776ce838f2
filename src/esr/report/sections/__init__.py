"""One module for each section of the page, each with one function `view(data: Data) -> Section`."""
