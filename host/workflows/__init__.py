"""Reading workflows: the editor's format, the API's, or a picture that carries one."""
