"""Lightning modules that the engine can look into."""

from dal.modules.active_module import ActiveModule as ActiveModule
